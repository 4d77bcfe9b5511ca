"""Drops: why traffic was dropped, what would help, and proof that it would."""
