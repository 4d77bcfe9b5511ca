"""Hubble's filter flags become the FlowFilters that the hubble CLI would send."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.cli.filters import PLAIN, SIDED, flow_filters, parse_raw, rewrite_not
from analyzer.errors import UsageError

FLAGS = [*(prefix + name for name in SIDED for prefix in ("", "from-", "to-")), *PLAIN]


@pytest.mark.parametrize(
    ("given_flags", "expected"),
    [
        ({}, []),
        ({"namespace": ["x"]}, [{"source_pod": ["x/"]}, {"destination_pod": ["x/"]}]),
        ({"namespace": [""]}, [{"source_pod": ["/"]}, {"destination_pod": ["/"]}]),
        ({"namespace": ["x", "y"]}, [{"source_pod": ["x/", "y/"]}, {"destination_pod": ["x/", "y/"]}]),
        ({"from-namespace": ["x"], "to-namespace": ["y"]}, [{"source_pod": ["x/"], "destination_pod": ["y/"]}]),
        ({"port": ["53"]}, [{"source_port": ["53"]}, {"destination_port": ["53"]}]),
        ({"to-port": ["53"]}, [{"destination_port": ["53"]}]),
        ({"from-pod": ["a/b"], "to-ip": ["10.0.0.0/8"]}, [{"source_pod": ["a/b"], "destination_ip": ["10.0.0.0/8"]}]),
        ({"pod": ["web"], "namespace": ["x"]}, [{"source_pod": ["x/web"]}, {"destination_pod": ["x/web"]}]),
        (
            {"from-pod": ["a/b"], "port": ["80"]},
            [{"source_pod": ["a/b"], "source_port": ["80"]}, {"source_pod": ["a/b"], "destination_port": ["80"]}],
        ),
        ({"verdict": ["dropped", "AUDIT"]}, [{"verdict": ["DROPPED", "AUDIT"]}]),
        ({"type": ["trace:to-endpoint"]}, [{"event_type": [{"type": 4, "match_sub_type": True, "sub_type": 0}]}]),
        ({"drop-reason-desc": ["POLICY_DENIED"]}, [{"drop_reason_desc": ["POLICY_DENIED"]}]),
        ({"from-namespace": [""], "to-pod": ["a/b"]}, [{"destination_pod": ["a/b"], "source_pod": ["/"]}]),
        ({"type": ["l7"]}, [{"event_type": [{"type": 129}]}]),
        ({"type": ["1:133"]}, [{"event_type": [{"type": 1, "match_sub_type": True, "sub_type": 133}]}]),
        ({"from-identity": ["world"]}, [{"source_identity": [2]}]),
        ({"to-workload": ["Deployment/cart"]}, [{"destination_workload": [{"kind": "Deployment", "name": "cart"}]}]),
        ({"tcp-flags": ["syn,ack"]}, [{"tcp_flags": [{"SYN": True, "ACK": True}]}]),
        ({"cluster": ["c"]}, [{"source_cluster_name": ["c"]}, {"destination_cluster_name": ["c"]}]),
        (
            {"from-service": ["web"], "from-namespace": ["x"]},
            [{"source_service": ["x/web"]}],
        ),
    ],
)
def test_flags_build_a_left_and_a_right_filter(
    given_flags: dict[str, list[str]], expected: list[dict[str, Any]]
) -> None:
    assert flow_filters(given_flags) == expected


@pytest.mark.parametrize(
    "given_flags",
    [
        {"from-pod": ["a"], "pod": ["b"]},
        {"from-pod": ["a/b"], "namespace": ["a"]},
        {"port": ["1"], "to-port": ["2"]},
        {"label": ["a=b"], "from-label": ["c=d"]},
        {"pod": ["a/b"], "namespace": ["c"]},
        {"verdict": ["MAYBE"]},
        {"port": ["http"]},
        {"port": ["70000"]},
        {"type": ["nonsense"]},
        {"type": ["trace:nonsense"]},
        {"identity": ["nobody"]},
        {"identity": ["99999999999"]},
        {"tcp-flags": ["SYN,XYZ"]},
        {"traffic-direction": ["up"]},
        {"ip-version": ["5"]},
        {"pod": [""]},
    ],
)
def test_what_makes_no_sense_is_refused(given_flags: dict[str, list[str]]) -> None:
    with pytest.raises(UsageError):
        flow_filters(given_flags)


@given(st.sampled_from(FLAGS), st.text(max_size=12))
def test_a_value_is_taken_or_refused_in_words(flag: str, value: str) -> None:
    with suppress(UsageError):
        assert 1 <= len(flow_filters({flag: [value]})) <= 2


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--not", "--verdict", "DROPPED", "file"], ["--not-verdict", "DROPPED", "file"]),
        (["--not", "--verdict=DROPPED"], ["--not-verdict=DROPPED"]),
        (["--not", "-n", "x"], ["--not-namespace", "x"]),
        (["--not", "-nx"], ["--not-namespace", "x"]),
        (["-n", "x", "--not", "--port", "53"], ["-n", "x", "--not-port", "53"]),
        (["--", "--not"], ["--", "--not"]),
    ],
)
def test_not_turns_the_next_filter(args: list[str], expected: list[str]) -> None:
    assert rewrite_not(args, FLAGS) == expected


@pytest.mark.parametrize("args", [["--not"], ["--not", "--not", "--verdict"], ["--not", "file"], ["--not", "--since"]])
def test_not_needs_a_filter(args: list[str]) -> None:
    with pytest.raises(UsageError, match="--not"):
        rewrite_not(args, FLAGS)


def test_raw_filters_may_share_a_string() -> None:
    assert parse_raw(['{"source_pod":["a/"]} {"verdict":["DROPPED"]}', "{}"], "--allowlist") == [
        {"source_pod": ["a/"]},
        {"verdict": ["DROPPED"]},
        {},
    ]


@pytest.mark.parametrize("text", ["[", "[]", "5", "nope", "{} x", "[" * 100000])
def test_raw_filters_have_to_be_objects(text: str) -> None:
    with pytest.raises(UsageError, match="--denylist"):
        parse_raw([text], "--denylist")
