"""L4 and port ranges: parsing is the inverse of printing; neighbours written together stand for the same ports."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.model.l4 import L4, PortRange, Protocol, spans

WITH_PORTS = st.sampled_from([Protocol.TCP, Protocol.UDP, Protocol.SCTP])
ICMP = st.sampled_from([Protocol.ICMP, Protocol.ICMPV6])
L4S = st.one_of(
    st.builds(L4, WITH_PORTS, st.integers(0, 65535)),
    st.builds(L4, ICMP, st.integers(0, 255)),
    st.builds(L4, st.sampled_from([Protocol.GRE, Protocol.VRRP, Protocol.ESP]), st.just(0)),
)


@given(L4S)
def test_parse_is_the_inverse_of_print(l4: L4) -> None:
    assert L4.parse(str(l4)) == l4


@given(st.integers(0, 65535), st.integers(0, 65535))
def test_port_ranges_parse_back(one: int, other: int) -> None:
    ports = PortRange(min(one, other), max(one, other))
    assert PortRange.parse(str(ports)) == ports
    assert one in ports
    assert other in ports


@pytest.mark.parametrize("text", ["70000/TCP", "-1/TCP", "ICMP/256", "8/ICMP", "80/XYZ", "", "x/TCP", "80"])
def test_what_is_no_layer_4_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message differs by what is wrong
        L4.parse(text)


@given(st.lists(L4S))
def test_spans_stand_for_exactly_these_ports(l4s: list[L4]) -> None:
    found: set[L4] = set()
    for text in spans(l4s):
        left, _, right = text.partition("/")
        first, dash, last = left.partition("-")
        if dash:
            found.update(L4(Protocol.parse(right), port) for port in range(int(first), int(last) + 1))
        else:
            found.add(L4.parse(text))
    assert found == set(l4s)


def test_spans_of_a_scan() -> None:
    ports = [L4(Protocol.TCP, port) for port in (22, 20, 21, 25, 443, 444)]
    assert spans([*ports, L4(Protocol.ICMP, 8), L4(Protocol.ICMP, 9)]) == (
        "ICMP/8",
        "ICMP/9",
        "20-22/TCP",
        "25/TCP",
        "443-444/TCP",
    )
