"""Tests of analyzer/cli."""
