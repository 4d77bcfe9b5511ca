"""Tests of the platform baseline."""
