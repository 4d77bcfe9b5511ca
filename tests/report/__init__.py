"""Tests of analyzer/report."""
