"""Generated from protos/analyzer."""
