"""Generated from protos/peer."""
