"""Shards: prepared footage in chunks that trainings stream from a disk or an object store."""
