"""A second, deliberately naive reading of Cilium's policy semantics, to judge the engine by."""
