"""Tests of analyzer.recommend."""
