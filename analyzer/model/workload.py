"""What an endpoint is called: the workload's name, from what Hubble reported or from the labels that people put names in."""

from __future__ import annotations

import re

from analyzer.model.edge import Endpoint
from analyzer.model.flow import Workload
from analyzer.model.identity import Entity, primary_entity
from analyzer.model.labels import Labels

__all__ = ["NAME_LABELS", "title", "workload_name"]

# The first of these that a pod carries names its workload, where Hubble reported none.
NAME_LABELS = ("app.kubernetes.io/name", "k8s-app", "app", "name", "run", "app.kubernetes.io/component", "component")

# What controllers append: a ReplicaSet's hash (and the pod's five letters), a Job's start minute or random tail.
_REPLICA_SET = re.compile(r"-[bcdf0-9hjklmnpqrstvwxz2456789]{6,10}$")
_POD = re.compile(r"-[a-z0-9]{5}$")
_JOB = re.compile(r"-\d{8,10}$")


def workload_name(endpoint: Endpoint, workloads: tuple[Workload, ...] = ()) -> str:
    """The workload's name, or ``""`` when nothing names it (reserved and outside endpoints).

    Hubble of 2022 reports ReplicaSets and Jobs instead of their owners: their generated tails are cut off.
    """
    if primary_entity(endpoint.labels) is not None or endpoint.address:
        return ""
    if workloads:
        return min(stem(workload) for workload in workloads)
    for key in NAME_LABELS:
        value = endpoint.labels.get(key, "k8s")
        if value:
            return value
    if endpoint.name:
        return _REPLICA_SET.sub("", _POD.sub("", endpoint.name))
    return _plain_labels(endpoint.labels)


def stem(workload: Workload) -> str:
    """The name that stays when a workload is rolled out or run again."""
    if workload.kind == "ReplicaSet":
        return _REPLICA_SET.sub("", workload.name)
    if workload.kind == "Job":
        return _JOB.sub("", workload.name)
    return workload.name


def _plain_labels(labels: Labels) -> str:
    own = [x for x in labels if x.source == "k8s" and not x.key.startswith(("io.cilium.", "io.kubernetes."))]
    return ",".join(f"{label.key}={label.value}" for label in own) or "unnamed"


def title(endpoint: Endpoint, workloads: tuple[Workload, ...] = ()) -> str:
    """How reports name an endpoint: ``shop/cart``, ``world``, ``kube-apiserver``, ``198.51.100.7``, ``unknown``."""
    entity = primary_entity(endpoint.labels)
    if endpoint.address:
        known = f"{entity} " if entity not in (None, Entity.WORLD) else ""
        return f"{known}{endpoint.address}"
    if entity is not None:
        return str(entity)
    return f"{endpoint.namespace or '?'}/{workload_name(endpoint, workloads)}"
