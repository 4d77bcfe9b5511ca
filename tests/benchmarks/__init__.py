"""Benchmarks: ratios measured in one run on one machine. `make bench` runs them; no test is ever timed."""
