"""Soundness judged by the naive engine: the documents as Cilium would read them allow every accepted edge that was not refused."""

from __future__ import annotations

from ipaddress import ip_network

from hypothesis import given, settings

from analyzer.model.edge import Edge, Endpoint
from analyzer.model.identity import WORLD, entities
from analyzer.model.inventory import AgentOptions
from analyzer.model.labels import Labels
from analyzer.model.perspective import policy_labels, seen_from
from analyzer.recommend import recommend
from tests.oracle.engine import decide_between
from tests.oracle.refused import refusal
from tests.oracle.world import Party, World
from tests.recommend.test_laws import INVENTORY, PODS, SIDES, documents, edges, names, near


def parties(end: Endpoint, known: list[str]) -> list[Party]:
    """What an end stands for in a dual-stack cluster: of a prefix, both ends."""
    labels = policy_labels(end)
    if end.address in ("", "unknown") or not entities(labels) & WORLD:
        return [Party(labels, "" if end.address == "unknown" else end.address)]
    network = ip_network(end.address)
    plain = [label for label in labels if label.key not in WORLD]
    world = Labels.of([*plain, f"reserved:world-ipv{network.version}"])
    return [Party(world, str(ip), tuple(known)) for ip in {network.network_address, network.broadcast_address}]


@settings(max_examples=80, deadline=None)
@given(edges())
def test_the_naive_engine_agrees_that_the_proposal_is_sound(found: list[Edge]) -> None:
    made = recommend(found, INVENTORY)
    refused = {(each.edge.key, each.direction and each.direction.name.lower()) for each in made.refused}
    for each in found:
        flow = {"proto": str(each.l4.protocol), "port": each.l4.port, "icmpType": each.l4.port}
        for letter, (section, side) in enumerate(SIDES):
            subject = near(each, side)
            if subject not in PODS or {(each.key, None), (each.key, section)} & refused:
                continue
            world = World(options=AgentOptions(ipv6=True, cluster_name=subject.cluster))
            policies = documents(made, subject)
            for far in seen_from(each, side):
                for one in parties(subject, []):
                    for other in parties(far, names(made, each)):
                        ends = (one, other) if section == "egress" else (other, one)
                        assert decide_between(policies, world, *ends, flow)[letter] in "AR", (section, each, far)


@settings(max_examples=40, deadline=None)
@given(edges())
def test_the_agents_own_checks_accept_every_document(found: list[Edge]) -> None:
    for document in recommend(found, INVENTORY).documents():
        assert refusal(document, AgentOptions()) is None
