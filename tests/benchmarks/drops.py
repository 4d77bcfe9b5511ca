"""Drops: a million of ten causes to a short list with fixes - drops per CPU-second, and memory that does not grow with them."""

from __future__ import annotations

from collections.abc import Iterator

from analyzer.aggregate import Aggregator
from analyzer.drops.findings import findings
from analyzer.drops.scene import Facts
from analyzer.drops.window import DropWindow
from analyzer.inventories import answered_names, from_edges
from analyzer.model.flow import EventKind, Flow
from analyzer.settle import settle
from tests.benchmarks.measure import in_child, scaled
from tests.drops.build import cnp, documents_of
from tests.flows import REMOTE_NODE, START, WORLD, drop, pod

__all__ = ["run"]

DROPS, BATCH = 1_000_000, 4_000
CART = pod("cart", number=1)
TEXT = cnp(
    "cart", "cart",
    "ingress: [{fromEndpoints: [{matchLabels: {app: web, tier: front}}], toPorts: [{ports: [{port: '80', protocol: TCP}]}]}, "
    "{fromEntities: [world], toPorts: [{ports: [{port: '8443', protocol: TCP}]}]}]\n"
    "ingressDeny: [{fromEndpoints: [{matchLabels: {app: bad}}]}]",
)  # fmt: skip


def run() -> None:
    """Print the figures, for a tenth of the drops and for all of them."""
    few, many = (in_child(_chase, scaled(size)) for size in (DROPS // 10, DROPS))
    number, events, listed = many.value
    print(f"  {number:,} drops in {events:,} events came to {len(listed)} causes: {', '.join(listed)}")
    print(
        f"  {number / many.cpu:,.0f} drops, {events / many.cpu:,.0f} events per CPU-second, causes and fixes included"
    )
    print(f"  peak memory {many.peak:.0f} MiB; for a tenth of the drops {few.peak:.0f} MiB")


def _chase(size: int) -> tuple[int, int, list[str]]:
    window, aggregator = DropWindow(), Aggregator()
    batch: list[Flow] = []
    for flow in _flows(size):
        batch.append(flow)
        if len(batch) == BATCH:
            window.add(batch)
            aggregator.add_records(batch)
            batch.clear()
    window.add(batch)
    aggregator.add_records(batch)
    edges = settle(aggregator.table)
    known = from_edges(edges, answered_names(aggregator.table.answers))
    facts = Facts(known, {edge.key: edge for edge in edges}, {}, window.answers, window.asking)
    found = findings(window.drops(), facts, documents_of(TEXT, known))
    causes = [str(each.causes[0].kind) for each in found]
    return sum(each.number for each in found), window.events, causes


def _flows(size: int) -> Iterator[Flow]:
    """Each drop is a policy verdict, the drop, and a retransmission; the connections of many clients are mixed."""
    web = [pod("web", number=n, tier="front") for n in range(50)]
    makers = (
        (web, 8080, 133), ([pod("web", "batch", tier="front")], 80, 133), ([pod("web", tier="back")], 80, 133),
        ([REMOTE_NODE], 8443, 133), ([pod("bad")], 80, 181), ([pod("other")], 80, 133), (web, 80, 155), (web, 80, 151),
        (web, 80, 158), ([WORLD], 80, 133),
    )  # fmt: skip
    for number in range(size):
        ends, port, reason = makers[number % len(makers)]
        place = number // len(makers)
        client = ends[place % len(ends)]
        address = f"10.0.{number % 10}.{place % 50}"
        if client is WORLD:
            address = f"198.{51 + place % 2}.{place // 250 % 250}.{place % 250}"
        flow = drop(
            client, CART, port, reason, client_port=32_768 + place % 28_000, time=START + number * 3_000_000,
            source_ip=address,
        )  # fmt: skip
        if reason in (133, 181):
            yield flow.replace(kind=EventKind.POLICY_VERDICT, sub_type=0)
        yield flow
        yield flow.replace(time=flow.time + 1_000_000_000)
