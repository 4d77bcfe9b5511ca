"""The platform baseline: clusterwide policies for what every workload needs, and the default deny that comes last."""

from analyzer.baseline.cautions import METADATA, Caution, Topic
from analyzer.baseline.documents import CLOSING, PLATFORM, system_names
from analyzer.baseline.plan import Baseline, baseline, broken_by_closing, closed_by, default_deny
from analyzer.baseline.roles import Named, Roles, Wishes

__all__ = [
    "CLOSING", "METADATA", "PLATFORM", "Baseline", "Caution", "Named", "Roles", "Topic", "Wishes", "baseline",
    "broken_by_closing", "closed_by", "default_deny", "system_names",
]  # fmt: skip
