"""Adviser: the smallest change to a set of policies that would allow what they deny, tried out before it is told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from analyzer.errors import PolicyError
from analyzer.model.edge import Edge, Endpoint, Side
from analyzer.model.identity import entities
from analyzer.model.inventory import Inventory
from analyzer.model.perspective import home_cluster, seen_from
from analyzer.model.workload import workload_name
from analyzer.policy import Origin, Policy, PolicyRef, compile_policies, parse
from analyzer.policy.model import Action, Rule
from analyzer.policy.resolve import RuleIndex
from analyzer.recommend.policies import safe_name
from analyzer.simulate import Result, Simulation, peer_of
from analyzer.suggest.fields import Need, NotExpressible, cilium_item, kubernetes_item, selector
from analyzer.suggest.misses import Miss, near_misses, other_subjects
from analyzer.suggest.workloads import Workloads

__all__ = ["Advice", "Adviser"]

CNP, CCNP, KNP = "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "NetworkPolicy"
_DIALECTS = {CNP: (0, cilium_item), KNP: (1, kubernetes_item), CCNP: (2, cilium_item)}
_VERSIONS = {CNP: "cilium.io/v2", CCNP: "cilium.io/v2", KNP: "networking.k8s.io/v1"}

Rules = list[tuple[PolicyRef, Rule]]


@dataclass(frozen=True, slots=True)
class Advice:
    """What would allow one side of an edge: `rule` added to `section` of `policy`, or, where `new`, a policy of its own with
    nothing but that rule. Without a rule, `obstacle` says why none helps. `misses` are the rules that almost allow it."""

    section: str
    policy: PolicyRef | None = None
    spec: int = 0
    rule: Mapping[str, Any] | None = None
    subject: Mapping[str, Any] | None = None
    new: bool = False
    remarks: tuple[str, ...] = ()
    obstacle: str = ""
    misses: tuple[Miss, ...] = ()

    @property
    def place(self) -> str:
        """Where the rule belongs, in words."""
        if self.policy is None or self.rule is None:
            return ""
        if self.new:
            return f"a new {self.policy}"
        spec = f" specs[{self.spec - 1}]" if self.spec else ""
        return f"{self.policy}{spec}, section {self.section}"

    def snippet(self) -> dict[str, Any]:
        """The rule as YAML would have it: the section with this one item, or the whole new policy."""
        section = {self.section: [dict(self.rule or {})]}
        if not self.new or self.policy is None:
            return section
        meta = {"name": self.policy.name} | ({"namespace": self.policy.namespace} if self.policy.namespace else {})
        spec = {"endpointSelector": dict(self.subject or {}), **section}
        return {"apiVersion": _VERSIONS[self.policy.kind], "kind": self.policy.kind, "metadata": meta, "spec": spec}


class Adviser:
    """Knows a set of policies and the workloads around them."""

    def __init__(self, policies: Iterable[Policy], inventory: Inventory) -> None:
        self._inventory = inventory
        self._index = RuleIndex(policies)
        self._workloads = Workloads(inventory)

    def advise(self, edge: Edge, side: Side) -> Advice:
        """What would allow this side of an edge, which these policies deny."""
        section = "egress" if side is Side.SOURCE else "ingress"
        near = edge.source if side is Side.SOURCE else edge.destination
        selecting = self._selecting(near)
        misses = near_misses(selecting, edge, side, self._inventory)
        denying = self._denying(selecting, edge, side)
        if denying is not None:
            obstacle = f"no allow rule outranks a deny: narrow or remove {denying}"
            return Advice(section, denying.policy, denying.spec, obstacle=obstacle, misses=misses)
        for policy, rule, reached in self._candidates(selecting, near, section):
            found = self._try(policy, rule, selecting, edge, side, section)
            if found is not None:
                remarks = (*found.remarks, *((_too_wide(reached),) if reached else ()))
                return replace(found, remarks=remarks, misses=misses)
        return Advice(section, obstacle="no single rule would allow it", misses=misses)

    def misses(self, edge: Edge, side: Side) -> tuple[Miss, ...]:
        """Rules that almost allow this side, those about other workloads included."""
        selecting = self._selecting(edge.source if side is Side.SOURCE else edge.destination)
        near = near_misses(selecting, edge, side, self._inventory)
        return (*near, *other_subjects(self._index.rules, selecting, edge, side, self._inventory))

    def _selecting(self, near: Endpoint) -> Rules:
        return self._index.selecting(peer_of(near, (), self._inventory).labels, host_labels=self._inventory.host_labels)

    def _denies(self, rules: Rules, edge: Edge, side: Side) -> bool:
        # Only what selects this side can change its answer: a few rules, however many policies there are.
        by_policy: dict[PolicyRef, list[Rule]] = {}
        for ref, rule in rules:
            by_policy.setdefault(ref, []).append(rule)
        compiled = compile_policies([Policy(ref, tuple(each)) for ref, each in by_policy.items()], self._inventory)
        return Simulation(compiled, self._inventory).side(edge, side).result is not Result.ALLOWED

    def _denying(self, selecting: Rules, edge: Edge, side: Side) -> Origin | None:
        """The deny rule that denies it all by itself, if there is one."""
        for ref, rule in selecting:
            for item in rule.items:
                alone = replace(rule, items=(item,), deny_ingress=False, deny_egress=False)
                if item.section.action is Action.DENY and self._denies([(ref, alone)], edge, side):
                    return Origin(*ref, rule.spec, item.section.value, item.index)
        return None

    def _candidates(
        self, selecting: Rules, near: Endpoint, section: str
    ) -> Iterable[tuple[PolicyRef, Rule | None, tuple[str, ...]]]:
        """Where the rule could go, the best place first: policies of this workload alone, then a new one, then wider ones."""
        ranked = sorted(
            ((ref, rule, self._workloads.reached(rule.subject, near)) for ref, rule in selecting if not rule.host),
            key=lambda each: (len(each[2]), _DIALECTS[each[0].kind][0], each[0], each[1].spec),
        )
        exact = [each for each in ranked if not each[2]]
        yield from exact
        if near.namespace and not entities(near.labels):
            name = safe_name(f"{workload_name(near) or 'workload'}-{section}")
            taken = {ref.name for ref, _ in self._index.rules if ref.namespace == near.namespace}
            while name in taken:
                name = safe_name(f"{name}-more")
            yield PolicyRef(CNP, near.namespace, name), None, ()
        yield from ranked[len(exact) :]

    def _try(
        self, policy: PolicyRef, rule: Rule | None, selecting: Rules, edge: Edge, side: Side, section: str
    ) -> Advice | None:
        near = edge.source if side is Side.SOURCE else edge.destination
        cluster = home_cluster(edge, near)
        need = Need(edge, side is Side.DESTINATION, seen_from(edge, side), cluster, policy.namespace)
        try:
            item, remarks = _DIALECTS[policy.kind][1](need, self._workloads)
            subject = self._subject(near) if rule is None else None
            changed = _with(policy, rule, section, item, subject, self._inventory)
        except (NotExpressible, PolicyError):
            return None
        rules = [each for each in selecting if rule is None or (each[0], each[1].spec) != (policy, rule.spec)]
        if self._denies([*rules, changed], edge, side):
            return None
        spec = 0 if rule is None else rule.spec
        return Advice(section, policy, spec, item, subject, rule is None, remarks)

    def _subject(self, near: Endpoint) -> dict[str, Any]:
        selection = self._workloads.selection(near)
        if selection is None:
            raise NotExpressible("the workload has no label that outlives a rollout")
        return selector(selection)


def _with(
    policy: PolicyRef, rule: Rule | None, section: str, item: Mapping[str, Any], subject: Mapping[str, Any] | None,
    inventory: Inventory,
) -> tuple[PolicyRef, Rule]:  # fmt: skip
    """The rule of `policy` with one item more, read as an agent would read it."""
    meta = {"name": policy.name, "namespace": policy.namespace}
    which = {"podSelector": {}} if policy.kind == KNP else {"endpointSelector": dict(subject or {})}
    document = {"kind": policy.kind, "metadata": meta, "spec": {**which, section: [dict(item)]}}
    (made,) = parse(document, inventory.options).rules
    if rule is None:
        return policy, made
    return policy, replace(rule, items=(*rule.items, *made.items))


def _too_wide(reached: tuple[str, ...]) -> str:
    shown = ", ".join(reached[:3]) + (f" and {len(reached) - 3} more" if len(reached) > 3 else "")
    return f"this policy also selects {shown}"
