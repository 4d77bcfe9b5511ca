"""Tests of analyzer/store."""
