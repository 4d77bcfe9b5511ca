"""Kubernetes documents: YAML and JSON files to plain values and back; the only package that knows PyYAML."""

from analyzer.manifests.read import MAX_BYTES, MAX_DEPTH, MAX_NODES, load, parse
from analyzer.manifests.write import dump
from analyzer.model.document import Document

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_NODES", "Document", "dump", "load", "parse"]
