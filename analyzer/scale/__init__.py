"""The same aggregate and merge on more than one core."""

from analyzer.scale.processes import Part, Processes, expanded

__all__ = ["Part", "Processes", "expanded"]
