"""A simulated cluster with known truth: for the demo, the tests and the benchmarks."""

from analyzer.demo.cluster import Call, Cluster, Fate, Outside, Reserved, Workload
from analyzer.demo.lines import lines
from analyzer.demo.story import CLUSTER, generated_cluster
from analyzer.demo.traffic import records
from analyzer.demo.truth import TrueEdge, Truth, truth

__all__ = [
    "CLUSTER",
    "Call",
    "Cluster",
    "Fate",
    "Outside",
    "Reserved",
    "TrueEdge",
    "Truth",
    "Workload",
    "generated_cluster",
    "lines",
    "records",
    "truth",
]
