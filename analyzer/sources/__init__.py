"""Where flows come from: one file per kind of source, and what they share."""
