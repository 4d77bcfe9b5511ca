"""Causes about ports: a rule that lets the peer pass, but on another port, protocol, named port, or on the Service's port."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from analyzer.drops.cause import Cause, CauseKind
from analyzer.drops.scene import Near, Scene
from analyzer.model.edge import Edge, Endpoint
from analyzer.model.inventory import ServiceInfo
from analyzer.model.l4 import L4, Protocol
from analyzer.model.labels import NAMESPACE_KEY
from analyzer.policy.model import PortSpec
from analyzer.policy.words import ports_in_words

__all__ = ["other_port"]

_FOR_EVERYBODY = 1000
"""Distance of a rule that is about every peer: it says little about this one."""


def other_port(scene: Scene) -> Iterator[Cause]:
    """Rules whose peers cover the drop and whose ports do not."""
    for near in scene.near:
        if not near.peer or near.port or near.item.ports is None:
            continue
        found = (
            _service_port(scene, near)
            or _named_port(scene, near, near.item.ports)
            or _protocol(scene, near)
            or Cause(CauseKind.PORT, _only(scene, near), (), near.origin)
        )
        # A rule for everybody on some port is hardly meant for this peer: only an exact miss counts.
        if near.item.peers is not None:
            yield replace(found, distance=_distance(scene, near.item.ports))
        elif found.kind is not CauseKind.PORT:
            yield replace(found, distance=_FOR_EVERYBODY)


def _only(scene: Scene, near: Near) -> str:
    ports = ports_in_words(near.item.ports)
    return f"{near.origin} lets this peer pass, but only on {ports}, not on {scene.edge.l4}"


def _distance(scene: Scene, ports: Iterable[PortSpec]) -> int:
    """How far away the nearest port is; a rule about ports nearby is more likely meant."""
    wanted = scene.edge.l4.port
    return min((min(abs(spec.first - wanted), abs(spec.last - wanted)) for spec in ports if not spec.name), default=0)


def _covers(scene: Scene, near: Near, l4: L4) -> bool:
    """Whether the rule's ports cover another layer 4."""
    edge: Edge = replace(scene.edge, key=scene.edge.key._replace(l4=l4))
    return scene.lets_pass(near.ref, near.rule, replace(near.item, peers=None, l7=None), edge)


def _protocol(scene: Scene, near: Near) -> Cause | None:
    l4 = scene.edge.l4
    if l4.protocol.is_icmp:
        if all(any(each.has_ports for each in spec.protocols) for spec in near.item.ports or ()):
            words = f"{near.origin} lets this peer pass on ports, which never cover {l4}: ICMP needs a rule of its own (icmps)"
            return Cause(CauseKind.PROTOCOL, words, (), near.origin)
        return None
    for other in (Protocol.TCP, Protocol.UDP, Protocol.SCTP):
        if l4.protocol.has_ports and other is not l4.protocol and _covers(scene, near, L4(other, l4.port)):
            words = f"{near.origin} lets this peer pass on port {l4.port}, but with {other}, not {l4.protocol}"
            return Cause(CauseKind.PROTOCOL, words, (), near.origin)
    return None


def _service_port(scene: Scene, near: Near) -> Cause | None:
    """A rule on the port of the Service: policies see the packet after its translation, with the port of the pod."""
    server, l4 = scene.edge.destination, scene.edge.l4
    for service in scene.inventory.services:
        if not _serves(service, server):
            continue
        for port, target in service.ports:
            if port != l4 and _target(target, port, server, scene) == l4 and _covers(scene, near, port):
                name = f"{service.namespace}/{service.name}"
                words = f"{near.origin} names {port}, the port of Service {name}; policies see the pod's own port, {l4}"
                return Cause(CauseKind.SERVICE_PORT, words, (f"Service {name} maps {port} to {target}",), near.origin)
    return None


def _serves(service: ServiceInfo, server: Endpoint) -> bool:
    wanted = {NAMESPACE_KEY: service.namespace, **service.selector}
    return bool(service.selector) and all(server.labels.get(key, "k8s") == value for key, value in wanted.items())


def _target(target: str, port: L4, server: Endpoint, scene: Scene) -> L4 | None:
    if target.isascii() and target.isdigit():
        return L4(port.protocol, int(target))
    return (_declared(scene, server) or {}).get(target)


def _declared(scene: Scene, server: Endpoint) -> Mapping[str, L4] | None:
    """The ports that the server's pods declare by name, None if nobody knows."""
    for each in scene.inventory.endpoints:
        if each.labels == server.labels and each.namespace == server.namespace and each.named_ports is not None:
            return each.named_ports
    return None


def _named_port(scene: Scene, near: Near, ports: Iterable[PortSpec]) -> Cause | None:
    for spec in ports:
        if not spec.name:
            continue
        declared = _declared(scene, scene.edge.destination)
        found = (
            None if declared is None else {name.lower(): port for name, port in declared.items()}.get(spec.name.lower())
        )
        if declared is None:
            missing = "and nobody knows what the pod declares (give --inventory)"
        elif found is None:
            missing = f"which the pod does not declare ({', '.join(sorted(declared)) or 'it declares none'})"
        else:
            missing = f"which the pod declares as {found}, not {scene.edge.l4}"
        words = f"{near.origin} lets this peer pass on the port named {spec.name}, {missing}"
        return Cause(CauseKind.NAMED_PORT, words, (), near.origin)
    return None
