"""The nouns of the simulation: workloads and their pods, peers that are no pods, calls between them, and what becomes of a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from analyzer.model.l4 import L4

__all__ = ["Call", "Cluster", "Fate", "Outside", "Party", "Pod", "Reserved", "Workload"]


@dataclass(frozen=True, slots=True)
class Workload:
    """Pods that share their labels. `rollouts` are the values that ``pod-template-hash`` and ``version`` take, one after the other.
    `dns_visible` is whether a DNS policy shows the names it asks for; `enforced` whether a policy selects it, so that Hubble
    writes policy verdicts."""

    namespace: str
    name: str
    kind: str = "Deployment"
    replicas: int = 2
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    ports: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    rollouts: tuple[str, ...] = ()
    dns_visible: bool = False
    enforced: bool = False

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    def label_sets(self, cluster: str) -> tuple[tuple[str, ...], ...]:
        """The identity labels of its pods, one set per rollout, as Hubble writes them."""
        common = {
            **(self.labels or {"app.kubernetes.io/name": self.name}),
            "io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name": self.namespace,
            "io.cilium.k8s.policy.cluster": cluster,
            "io.cilium.k8s.policy.serviceaccount": "default",
            "io.kubernetes.pod.namespace": self.namespace,
        }
        if self.kind == "StatefulSet":
            common["apps.kubernetes.io/pod-index"] = "0"
        sets = [{**common, "pod-template-hash": each, "version": each[:2]} for each in self.rollouts] or [common]
        return tuple(tuple(sorted(f"k8s:{key}={value}" for key, value in each.items())) for each in sets)


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod of a workload: where it runs and what Hubble calls it. `rollout` counts from 0."""

    workload: Workload
    name: str
    ip: str
    node: str
    endpoint_id: int
    identity: int
    rollout: int = 0


@dataclass(frozen=True, slots=True)
class Reserved:
    """A peer with a reserved identity, such as ``host`` or ``kube-apiserver``."""

    entity: str
    ip: str

    def __str__(self) -> str:
        return self.entity


@dataclass(frozen=True, slots=True)
class Outside:
    """A peer outside the cluster: one name with its addresses, or many addresses without a name."""

    addresses: tuple[str, ...]
    name: str = ""

    def __str__(self) -> str:
        return self.name or "world"


Party = Workload | Reserved | Outside


class Fate(StrEnum):
    """What becomes of the packets of a call."""

    ANSWERED = "answered"
    AUDITED = "audited"
    DENIED_BY_DEFAULT = "dropped: no rule allows it"
    DENIED_BY_RULE = "dropped: a rule denies it"
    LOST = "dropped: conntrack map full"
    IGNORED = "never answered"
    RESET = "answered by a reset"


@dataclass(frozen=True, slots=True)
class Call:
    """`client` connects `count` times to `server` on `l4`, at any time, or at `hour` of the day only."""

    client: Party
    server: Party
    l4: L4
    count: int = 6
    fate: Fate = Fate.ANSWERED
    hour: int | None = None


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster: its nodes, its workloads and all their calls."""

    name: str
    nodes: tuple[str, ...]
    calls: tuple[Call, ...]

    @property
    def workloads(self) -> tuple[Workload, ...]:
        """Every workload that calls or is called, each once, in order of appearance."""
        found = {
            str(end): end for call in self.calls for end in (call.client, call.server) if isinstance(end, Workload)
        }
        return tuple(found.values())

    def pods(self) -> dict[str, tuple[Pod, ...]]:
        """The pods of every workload by its name: `replicas` of them for each rollout."""
        found: dict[str, tuple[Pod, ...]] = {}
        number = 0
        for index, workload in enumerate(self.workloads):
            pods = []
            for rollout in range(max(1, len(workload.rollouts))):
                for replica in range(workload.replicas):
                    number += 1
                    ip = f"10.{244 + number // 60000}.{number // 250 % 240}.{number % 250 + 2}"
                    pods.append(
                        Pod(
                            workload, _pod_name(workload, rollout, replica), ip, self.nodes[number % len(self.nodes)],
                            100 + number, 10_000 + 10 * index + rollout, rollout,
                        )
                    )  # fmt: skip
            found[str(workload)] = tuple(pods)
        return found


def _pod_name(workload: Workload, rollout: int, replica: int) -> str:
    if workload.kind == "StatefulSet":
        return f"{workload.name}-{replica}"
    if workload.kind == "CronJob":
        return f"{workload.name}-2945{replica:04d}-x7k2p"
    if workload.kind == "Pod":
        return workload.name
    template = workload.rollouts[rollout] if workload.rollouts else "6d88ffb646"
    return f"{workload.name}-{template}-{'bcdfghjklm'[replica % 10]}4n7{rollout}"
