"""Hubble flow-log analyzer and Cilium policy recommender. Its main path as a library is `analyzer.pipeline`.

No names are gathered here: `recommend`, `settle` and `simulate` are modules, and one name for two things helps nobody.
"""
