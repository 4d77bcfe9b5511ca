"""Generated from protos/relay."""
