"""Generated from protos/observer."""
