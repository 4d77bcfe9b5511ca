"""Tests of reading on several cores."""
