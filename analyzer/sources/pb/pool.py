"""The descriptor pool of the generated modules: our own, so that nobody else's ``flow/flow.proto`` clashes with ours."""

from __future__ import annotations

from google.protobuf import any_pb2, descriptor_pool, field_mask_pb2, timestamp_pb2, wrappers_pb2

__all__ = ["POOL", "Default"]

POOL = descriptor_pool.DescriptorPool()
for _known in (any_pb2, field_mask_pb2, timestamp_pb2, wrappers_pb2):
    POOL.AddSerializedFile(_known.DESCRIPTOR.serialized_pb)


def Default() -> descriptor_pool.DescriptorPool:
    """What generated code calls to find its pool."""
    return POOL
