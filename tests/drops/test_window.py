"""The window: verdict, drop and retransmissions of one connection are one; times, talkers; memory stays bounded."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from analyzer.drops.drop import MAX_MINUTES, Drops, Few, Talkers
from analyzer.drops.reasons import DropClass
from analyzer.drops.window import MAX_GROUPS, MAX_PLACES, RETRANSMISSION, DropWindow
from analyzer.model.edge import Side
from analyzer.model.flow import Detail, DnsRecord, EventKind, Flow, FlowEndpoint, HttpRecord, PolicyRef, Verdict
from analyzer.model.labels import Labels
from analyzer.sources.jsonpb import FileSource
from tests.flows import ACK, START, SYN_ACK, WORLD, drop, pod, remote, tcp, udp

SECOND = 1_000_000_000
WEB, CART = pod("web"), pod("cart", number=7)
SAMPLES = Path(__file__).resolve().parents[2] / ".." / "shared" / "samples"


def window(*flows: Flow) -> DropWindow:
    made = DropWindow()
    made.add(flows)
    return made


def only(*flows: Flow) -> Drops:
    (found,) = window(*flows).drops()
    return found


def denied(time: int = 0, **changes: Any) -> Flow:
    """The policy verdict that goes with a drop."""
    return drop(WEB, CART, 8080, kind=EventKind.POLICY_VERDICT, sub_type=0, time=START + time, **changes)


def test_verdict_drop_and_retransmissions_of_a_connection_are_one() -> None:
    waits = (0, 1, 3, 7, 15, 31, 63)
    flows = [
        each for wait in waits for each in (denied(wait * SECOND), drop(WEB, CART, 8080, time=START + wait * SECOND))
    ]
    found = only(*flows)
    assert (found.drops, found.events) == (1, 14)
    assert (found.first, found.last) == (START, START + 63 * SECOND)
    assert found.key.side is Side.DESTINATION
    assert found.kind is DropClass.DEFAULT_DENY


def test_the_same_ports_much_later_are_another_connection() -> None:
    found = only(drop(WEB, CART, 8080), drop(WEB, CART, 8080, time=START + RETRANSMISSION + 1))
    assert (found.drops, found.events) == (2, 2)


def test_connections_are_told_apart_by_the_clients_port_and_counted_by_the_minute() -> None:
    minute = 60 * SECOND
    flows = [drop(WEB, CART, 8080, client_port=40_000 + n, time=START + n * minute // 2) for n in range(6)]
    found = only(*flows)
    assert found.drops == 6
    assert list(found.minutes.values()) == [2, 2, 2]


def test_sides_reasons_and_audit_are_kept_apart() -> None:
    flows = [
        drop(WEB, CART, 8080),
        drop(WEB, CART, 8080, direction=2),
        drop(WEB, CART, 8080, 181),
        denied(verdict=Verdict.AUDIT, drop_reason=0),
        drop(WEB, CART, 8080, 155),
    ]
    found = window(*flows).drops()
    kinds = {(each.key.side, each.kind, each.key.audit) for each in found}
    assert len(found) == len(kinds) == 5
    assert (Side.SOURCE, DropClass.DEFAULT_DENY, False) in kinds
    assert (Side.DESTINATION, DropClass.DEFAULT_DENY, True) in kinds
    assert (Side.DESTINATION, DropClass.EXPLICIT_DENY, False) in kinds
    assert (Side.DESTINATION, DropClass.INFRASTRUCTURE, False) in kinds


def test_a_verdict_without_a_reason_is_still_a_denial() -> None:
    by = PolicyRef("CiliumNetworkPolicy", "shop", "no-web")
    assert only(denied(drop_reason=0)).kind is DropClass.DEFAULT_DENY
    found = only(denied(drop_reason=0, detail=Detail(ingress_denied_by=(by,))))
    assert found.kind is DropClass.EXPLICIT_DENY
    assert list(found.denied_by) == [by]


def test_a_dropped_answer_belongs_to_the_connection_it_answers() -> None:
    found = only(drop(CART, WEB, 40_000, client_port=8080, tcp_flags=SYN_ACK, direction=2))
    assert found.key.reply
    assert (found.key.source.namespace, found.key.l4.port, found.key.side) == ("shop", 8080, Side.DESTINATION)
    assert found.key.source.labels == WEB.labels
    assert found.opening == 0


def test_packets_inside_a_connection_do_not_open_one() -> None:
    assert only(drop(WEB, CART, 8080, tcp_flags=ACK)).opening == 0
    assert only(drop(WEB, CART, 8080)).opening == 1


def test_the_pods_that_talk_most_come_first() -> None:
    others = [pod("web", number=n) for n in range(1, 4)]
    flows = [
        drop(each, CART, 8080, client_port=n, source_ip=f"10.0.1.{each.endpoint_id}")
        for each, n in product(others, range(40_000, 40_002))
    ]
    flows += [drop(WEB, CART, 8080, client_port=n) for n in range(40_000, 40_005)]
    found = only(*flows)
    assert found.drops == 11
    assert found.clients.top(2) == (("shop/web-7d4b9c6f5-00000", 5), ("shop/web-7d4b9c6f5-00001", 2))
    assert [each.name for each in found.source_workloads] == ["web"]


def test_requests_that_the_proxy_refuses_are_told_apart_and_its_own_answer_is_no_drop() -> None:
    def request(path: str, code: int = 0) -> Flow:
        detail = Detail(http=HttpRecord("GET", path, code=code), l7_type=2 if code else 1)
        return tcp(
            WEB, CART, 8080, kind=EventKind.L7, verdict=Verdict.DROPPED, direction=1, detail=detail, reply=bool(code)
        )

    found = window(request("/a"), request("/a", 403), request("/b")).drops()
    assert [(each.key.request, each.drops, each.kind) for each in found] == [
        ("GET /a", 1, DropClass.L7),
        ("GET /b", 1, DropClass.L7),
    ]


def test_a_pod_that_is_still_set_up_is_transient() -> None:
    starting = FlowEndpoint(Labels.of(["reserved:init"]), identity=5)
    assert only(drop(starting, CART, 8080)).kind is DropClass.TRANSIENT


def test_an_identity_that_is_late_is_noticed() -> None:
    late = WORLD._replace(pod="web-1", namespace="shop")
    assert only(drop(late, CART, 8080)).stale == 1


def test_answers_and_who_asked_are_kept() -> None:
    answer = DnsRecord("api.example", ("203.0.113.9",))
    dns = pod("coredns", "kube-system")
    made = window(udp(WEB, dns, 53, reply=True, kind=EventKind.L7, direction=2, detail=Detail(dns=answer, l7_type=2)))
    assert made.answers == {"203.0.113.9": {"api.example": START}}
    assert [end.labels for end in made.asking] == [WEB.labels]


def test_records_that_stand_for_many_are_counted_as_such() -> None:
    found = only(drop(WEB, CART, 8080, weight=50, aggregated=True))
    assert (found.drops, found.events, found.exact) == (50, 50, False)


def test_hostile_floods_stay_bounded() -> None:
    """Every packet from another address, to another port, with another pod's name."""
    made = DropWindow()
    number = 0
    for one in range(100):
        for other in range(100):
            number += 1
            client = WORLD._replace(pod=f"x-{number}", namespace="shop")
            made.add([drop(client, CART, number % 60_000 + 1, source_ip=f"198.{one}.0.{other}", time=START + number)])
    found = made.drops()
    assert len(found) == MAX_PLACES + 1
    assert sum(each.drops for each in found) == number == made.events
    (rest,) = [each for each in found if each.key.rest]
    assert len(rest.clients.counts) <= rest.clients.limit
    assert rest.clients.overflow
    assert rest.ports.more


def test_more_kinds_of_drops_than_there_is_room_are_counted() -> None:
    made = window(*(drop(pod(f"app-{n}"), CART, 8080) for n in range(MAX_GROUPS + 5)))
    assert len(made.drops()) == MAX_GROUPS
    assert made.left_over == {DropClass.DEFAULT_DENY: 5}


def test_minutes_are_bounded() -> None:
    flows = [drop(WEB, CART, 8080, client_port=n, time=START + n * 60 * SECOND) for n in range(1, MAX_MINUTES + 50)]
    found = only(*flows)
    assert len(found.minutes) == MAX_MINUTES
    assert max(found.minutes) == found.last // (60 * SECOND)


def test_counts_of_talkers_are_exact_until_there_are_too_many_and_never_too_low() -> None:
    counted = Talkers(4)
    for n in range(400):
        counted.add("much" if n % 2 else f"one-{n}")
    assert counted.overflow
    assert counted.top(1)[0][0] == "much"
    assert counted.top(1)[0][1] >= 200
    assert len(counted.counts) == 4


def test_few_keeps_the_first() -> None:
    few = Few(2)
    for each in ("", "b", "a", "b", "c"):
        few.add(each)
    assert list(few) == ["b", "a"]
    assert few.more


def test_nothing_but_drops_leaves_a_trace() -> None:
    made = window(tcp(WEB, CART, 8080), remote_reply(), udp(WEB, CART, 53))
    assert made.drops() == ()
    assert made.events == 0


def remote_reply() -> Flow:
    return tcp(WEB, remote(CART), 8080, reply=True)


def test_real_drops() -> None:
    path = SAMPLES / "curated.jsonl"
    if not path.is_file():
        pytest.skip("real captures are not here")
    made = DropWindow()
    for batch in FileSource([str(path)]).batches():
        made.add(batch.records)
    found = {(each.kind, each.key.audit, str(each.key.l4)): each for each in made.drops()}
    assert set(found) == {
        (DropClass.DEFAULT_DENY, True, "80/TCP"),
        (DropClass.DEFAULT_DENY, True, "6379/TCP"),
        (DropClass.EXPLICIT_DENY, False, "80/TCP"),
        (DropClass.INFRASTRUCTURE, False, "ICMPv6/133"),
        (DropClass.DEFAULT_DENY, False, "80/TCP"),
    }
    named = found[DropClass.EXPLICIT_DENY, False, "80/TCP"]
    assert list(named.denied_by) == [PolicyRef("CiliumNetworkPolicy", "net-lab", "deny-tg-to-echo")]
    assert named.key.side is Side.SOURCE
