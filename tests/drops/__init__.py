"""Tests of analyzer.drops."""
