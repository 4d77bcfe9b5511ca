"""What the analyzer has to say: `Report`, the views that build one, and one pure renderer per format."""
