"""Shards: tar files of samples, and access to each sample by its id."""

from mixloader.shards.shard_set import Sample, ShardSet

__all__ = ["Sample", "ShardSet"]
