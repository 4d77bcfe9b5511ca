"""Generated from protos/flow."""
