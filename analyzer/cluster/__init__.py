"""The Kubernetes API, read only: inventory, policies, and a port-forward to Relay. The only package that knows its client, kr8s."""

from analyzer.cluster.api import INVENTORY, POLICIES, Found, Resource, fetch
from analyzer.cluster.forward import port_forward
from analyzer.cluster.kubeconfig import ClusterOptions

__all__ = ["INVENTORY", "POLICIES", "ClusterOptions", "Found", "Resource", "fetch", "port_forward"]
