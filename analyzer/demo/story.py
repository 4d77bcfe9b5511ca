"""The clusters: the small story that the demo tells, and random bigger ones."""

from __future__ import annotations

import random

from analyzer.demo.cluster import Call, Cluster, Fate, Outside, Reserved, Workload
from analyzer.model.l4 import L4, Protocol

__all__ = ["CLUSTER", "generated_cluster"]

NODES = ("node-1", "node-2", "node-3")
CLIENTS = 2_000
HOST, REMOTE_NODE, INGRESS = (
    Reserved("host", "172.18.0.2"),
    Reserved("remote-node", "172.18.0.3"),
    Reserved("ingress", "10.244.9.9"),
)
API_SERVER = Reserved("kube-apiserver", "172.18.0.4")


def tcp(port: int) -> L4:
    return L4(Protocol.TCP, port)


def _workloads() -> dict[str, Workload]:
    http = {"http": 8080, "metrics": 9102}
    made = [
        Workload("shop", "frontend", replicas=3, ports=http, rollouts=("7d77448bf5", "5c9f8d6b44"), enforced=True),
        Workload("shop", "cart", ports=http),
        Workload("shop", "checkout", ports=http, dns_visible=True),
        Workload("shop", "payments", ports={"grpc": 9443, "metrics": 9102}, dns_visible=True, enforced=True),
        Workload("shop", "redis", "StatefulSet", 1, {"app": "redis", "tier": "cache"}, {"redis": 6379}),
        Workload("shop", "db", "StatefulSet", 2, ports={"postgres": 5432}, enforced=True),
        Workload("batch", "worker"),
        Workload("batch", "redis", replicas=1, labels={"app": "redis", "tier": "cache"}, ports={"redis": 6379}),
        Workload("batch", "report", "CronJob", 1),
        Workload("gateway-system", "gateway", ports={"https": 443}),
        Workload("gateway-system", "auth-proxy", ports={"http": 4180}),
        Workload("monitoring", "prometheus", "StatefulSet", 1),
        Workload("monitoring", "operator", replicas=1),
        Workload("kube-system", "coredns", labels={"k8s-app": "kube-dns"}, ports={"dns": 53, "metrics": 9153}),
        Workload("telecom", "mme", replicas=1),
        Workload("telecom", "hss", replicas=1, ports={"diameter": 3868}),
        Workload("debug", "toolbox", "Pod", 1, {"run": "toolbox"}),
        Workload("debug", "scanner", "Pod", 1, {"run": "scanner"}),
    ]
    return {str(workload): workload for workload in made}


def _story() -> Cluster:
    w = _workloads()
    frontend, cart, checkout, payments = (w[f"shop/{name}"] for name in ("frontend", "cart", "checkout", "payments"))
    redis, db, dns = w["shop/redis"], w["shop/db"], w["kube-system/coredns"]
    prometheus, gateway, proxy = w["monitoring/prometheus"], w["gateway-system/gateway"], w["gateway-system/auth-proxy"]
    clients = Outside(
        tuple(f"{11 + n % 150}.{n // 150 * 7 % 256}.{n * 37 % 256}.{n % 254 + 1}" for n in range(CLIENTS))
    )
    api = Outside(("198.51.100.10",), "api.payments.example")
    cdn = Outside(tuple(f"203.0.113.{n}" for n in range(20, 60)), "cdn.assets.example")
    calls = [
        Call(clients, gateway, tcp(443), CLIENTS),
        Call(gateway, proxy, tcp(4180), 60),
        Call(proxy, frontend, tcp(8080), 60),
        Call(INGRESS, frontend, tcp(8080)),
        Call(REMOTE_NODE, frontend, tcp(8080)),
        Call(frontend, cart, tcp(8080), 40),
        Call(frontend, checkout, tcp(8080), 20),
        Call(cart, redis, tcp(6379), 40),
        Call(checkout, db, tcp(5432), 20),
        Call(checkout, payments, tcp(9443), 20, Fate.AUDITED),
        Call(payments, api, tcp(443), 20),
        Call(payments, cdn, tcp(443), 40),
        Call(payments, Outside(("169.254.169.254",)), tcp(80), 3),
        Call(w["batch/worker"], w["batch/redis"], tcp(6379), 20),
        Call(w["batch/report"], db, tcp(5432), 3, hour=2),
        Call(w["telecom/mme"], w["telecom/hss"], L4(Protocol.SCTP, 3868), 8),
        Call(w["monitoring/operator"], API_SERVER, tcp(6443), 20),
        Call(dns, API_SERVER, tcp(6443)),
        Call(dns, Outside(("192.0.2.53",)), L4(Protocol.UDP, 53)),
        Call(prometheus, db, L4(Protocol.ICMP, 8)),
        Call(w["debug/toolbox"], db, tcp(5432), 2),
        Call(frontend, db, tcp(5432), 4, Fate.DENIED_BY_DEFAULT, hour=15),
        Call(w["batch/worker"], payments, tcp(9443), 3, Fate.DENIED_BY_RULE),
        Call(cart, redis, tcp(16379), 2, Fate.LOST),
    ]
    calls += [Call(w["debug/scanner"], cart, tcp(20 + n), 1, Fate.RESET if n % 2 else Fate.IGNORED) for n in range(50)]
    serving = [each for each in w.values() if each.namespace in ("shop", "gateway-system")]
    calls += [Call(prometheus, each, tcp(9102), 8) for each in serving]
    calls += [Call(prometheus, dns, tcp(9153), 8)]
    calls += [Call(HOST, each, tcp(next(iter(each.ports.values()))), 8) for each in serving if each.ports]
    asking = [each for each in w.values() if each.namespace not in ("kube-system", "telecom", "debug")]
    calls += [Call(each, dns, L4(Protocol.UDP, 53), 8) for each in asking]
    calls += [Call(each, dns, tcp(53), 2) for each in asking[:3]]
    return Cluster("default", NODES, tuple(calls))


CLUSTER = _story()
"""A web shop behind a gateway and an identity-aware proxy, with all that makes traffic hard to read."""


def generated_cluster(seed: int, workloads: int = 500) -> Cluster:
    """A random cluster: layered services in a tenth as many namespaces, DNS for all, some names outside, monitoring of all."""
    chance = random.Random(seed)
    dns = Workload("kube-system", "coredns", labels={"k8s-app": "kube-dns"}, ports={"dns": 53})
    prometheus = Workload("monitoring", "prometheus", "StatefulSet", 1)
    made = [
        Workload(
            f"team-{chance.randrange(max(1, workloads // 10))}", f"svc-{number}", chance.choice(("Deployment", "StatefulSet")),
            chance.randint(1, 3), ports={"http": chance.choice((80, 8080, 8443, 9000, 5432, 6379))},
            dns_visible=not number % 20,
        )
        for number in range(workloads)
    ]  # fmt: skip
    calls = []
    for number, workload in enumerate(made):
        for other in chance.sample(made[:number], min(number, chance.randint(1, 4))):
            calls.append(Call(workload, other, tcp(next(iter(other.ports.values()))), chance.randint(1, 3)))
        calls.append(Call(workload, dns, L4(Protocol.UDP, 53), 2))
        calls.append(Call(prometheus, workload, tcp(9102), 2))
        if not number % 10:
            address = f"198.51.{number // 250 % 250}.{number % 250}"
            calls.append(Call(workload, Outside((address,), f"api-{number}.partner.example"), tcp(443), 2))
    return Cluster("default", tuple(f"node-{n}" for n in range(1, 2 + workloads // 50)), tuple(calls))
