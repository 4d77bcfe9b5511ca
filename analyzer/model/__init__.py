"""The nouns of the analyzer: plain values without I/O. Import from the modules inside."""
