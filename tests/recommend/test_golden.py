"""A dozen hand-sized situations, one for each thing that is easily got wrong, from flows to the bytes of the policies.

`RENEW_GOLDEN=1 pytest tests/recommend/test_golden.py` writes the files anew; read the difference before committing it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from analyzer.aggregate import aggregate
from analyzer.inventories import answered_names, from_edges
from analyzer.manifests import dump, parse
from analyzer.model.flow import Detail, Direction, DnsRecord, EventKind, Flow, Verdict
from analyzer.policy.validate import validate
from analyzer.recommend import recommend
from analyzer.settle import settle
from analyzer.verify import check_proposal
from tests.flows import API_SERVER, HOST, REMOTE_NODE, RST, SYN, SYN_ACK, WORLD, drop, icmp, pod, remote, tcp, udp
from tests.recommend.test_laws import validator

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "recommend"
CART, REDIS, WEB = pod("cart"), pod("redis", number=1), pod("web", number=2)
DNS = pod("kube-dns", "kube-system", number=3, k8s_app="kube-dns")
INGRESS = WORLD._replace(labels=WORLD.labels.__class__.of(["reserved:ingress"]), identity=8)
WORLD_4 = WORLD._replace(labels=WORLD.labels.__class__.of(["reserved:world-ipv4"]), identity=9)
PUBLIC = "198.51.100.7"


def both(source: object, destination: object, port: int, **changes: object) -> list[Flow]:
    """A connection as both nodes report it, with its answer."""
    one, other = remote(source), remote(destination)  # type: ignore[arg-type]
    return [
        tcp(source, other, port, sub_type=4, tcp_flags=SYN, **changes),  # type: ignore[arg-type]
        tcp(one, destination, port, tcp_flags=SYN, **changes),  # type: ignore[arg-type]
        tcp(one, destination, port, reply=True, sub_type=4, tcp_flags=SYN_ACK, **changes),  # type: ignore[arg-type]
        tcp(source, other, port, reply=True, tcp_flags=SYN_ACK, **changes),  # type: ignore[arg-type]
    ]


def lookups(client: object, name: str = "", ip: str = PUBLIC) -> list[Flow]:
    """The client asks the resolver; with a name, through the DNS proxy, which shows what it asked."""
    plain = [udp(client, DNS, 53), udp(client, DNS, 53, reply=True)]  # type: ignore[arg-type]
    if not name:
        return plain
    seen = {"kind": EventKind.L7, "direction": Direction.EGRESS}
    asked = udp(client, DNS, 53, detail=Detail(dns=DnsRecord(name), l7_type=1), **seen)  # type: ignore[arg-type]
    told = udp(client, DNS, 53, reply=True, detail=Detail(dns=DnsRecord(name, (ip,)), l7_type=2), **seen)  # type: ignore[arg-type]
    return [*plain, asked, told]


def rollout() -> list[Flow]:
    old, new = (
        pod("web", number=number, pod_template_hash=each) for number, each in enumerate(("7d77448bf5", "5c9f8d6b44"))
    )
    return [*both(old, CART, 8080), *both(new, CART, 8080)]


def names() -> list[Flow]:
    named = {"destination_ip": PUBLIC, "detail": Detail(destination_names=("api.example.com",))}
    return [
        *lookups(CART, "api.example.com"),
        tcp(CART, WORLD, 443, tcp_flags=SYN, **named),
        tcp(
            CART,
            WORLD,
            443,
            reply=True,
            destination_ip=PUBLIC,
            tcp_flags=SYN_ACK,
            detail=Detail(source_names=("api.example.com",)),
        ),
    ]


def clients() -> list[Flow]:
    crowd = [f"{20 + n // 50}.{n % 50}.{n * 37 % 256}.{n % 250 + 1}" for n in range(600)]
    found = []
    for ip in crowd:
        found += [
            tcp(WORLD_4, WEB, 8443, source_ip=ip, tcp_flags=SYN),
            tcp(WORLD_4, WEB, 8443, source_ip=ip, reply=True, tcp_flags=SYN_ACK),
        ]
    return found


def refused() -> list[Flow]:
    scan = [tcp(WEB, REDIS, port, tcp_flags=SYN) for port in range(20, 30)]
    reset = [tcp(WEB, REDIS, 30, tcp_flags=SYN), tcp(WEB, REDIS, 30, reply=True, tcp_flags=RST)]
    denied = [drop(WEB, REDIS, 6379, 133), drop(WEB, REDIS, 6380, 181), drop(WEB, REDIS, 6381, 155)]
    return [*both(CART, REDIS, 6379), *scan, *reset, *denied]


def passive_ftp() -> list[Flow]:
    """Control on port 21, data on whatever port the server names; beside it a database."""
    data = [30_000, 30_007, 30_012, 30_013, 30_021, 30_030, 30_038, 30_044, 30_059, 30_060]
    return [flow for port in (21, 5432, *data) for flow in both(CART, REDIS, port)]


def audited() -> list[Flow]:
    verdict = {
        "kind": EventKind.POLICY_VERDICT,
        "verdict": Verdict.AUDIT,
        "direction": Direction.INGRESS,
        "tcp_flags": SYN,
    }
    return [*both(WEB, CART, 8080), tcp(remote(WEB), CART, 8080, **verdict)]


SITUATIONS: dict[str, Callable[[], list[Flow]]] = {
    "both-nodes-report-one-connection": lambda: both(WEB, CART, 8080),
    "replies-are-no-rules-and-client-ports-neither": lambda: [
        *both(WEB, CART, 8080, client_port=43_210),
        *[flow.replace(is_reply=None, trace_reason=0) for flow in both(WEB, CART, 8080, client_port=51_234)],
    ],
    "one-app-in-two-namespaces": lambda: [*both(CART, REDIS, 6379), *both(CART, pod("redis", "batch", number=9), 6379)],
    "a-rollout-changes-hashes": rollout,
    "a-name-outside": names,
    "thousands-of-clients-are-world": clients,
    "one-address-without-a-name": lambda: [
        *lookups(CART), tcp(CART, WORLD, 443, destination_ip=PUBLIC, tcp_flags=SYN),
        tcp(CART, WORLD, 443, reply=True, destination_ip=PUBLIC, tcp_flags=SYN_ACK),
    ],
    "the-api-server-is-an-entity": lambda: [*both(CART, API_SERVER, 6443), *lookups(CART)],
    "nodes-probes-and-ingress": lambda: [
        *both(HOST, CART, 8080), *both(REMOTE_NODE, CART, 8080), *both(INGRESS, CART, 8080),
    ],
    "drops-scans-and-faults-are-no-rules": refused,
    "audited-traffic-counts": audited,
    "ping-and-sctp": lambda: [
        icmp(WEB, CART, 8), icmp(WEB, CART, 0, reply=True), icmp(CART, WEB, 3, trace_reason=4),
        *[flow.replace(protocol=flow.protocol.SCTP, tcp_flags=0) for flow in both(WEB, REDIS, 3868)],  # type: ignore[union-attr]
    ],
    "more-ports-than-a-list-holds": lambda: [flow for port in range(9000, 9225, 5) for flow in both(WEB, CART, port)],
    "passive-ftp": passive_ftp,
    "a-direction-nobody-used-is-left-alone": lambda: [*both(WEB, REDIS, 6379)],
}  # fmt: skip


def written(name: str, seed: int = 0) -> str:
    flows = SITUATIONS[name]()
    random.Random(seed).shuffle(flows)
    table = aggregate(flows)
    edges = settle(table)
    known = from_edges(edges, answered_names(table.answers))
    proposal = recommend(edges, known)
    made = check_proposal(proposal, edges, known)
    assert made.passed, made
    assert made.minimal, made.idle
    return dump(proposal.manifests())


@pytest.mark.parametrize("name", SITUATIONS)
def test_golden(name: str) -> None:
    path, text = GOLDEN / f"{name}.yaml", written(name)
    if os.environ.get("RENEW_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
    assert written(name, seed=1) == text
    schema = validator()
    for document in parse(text):
        schema.validate(document.data)
        assert validate(document.data) == ()


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(SITUATIONS)
