"""Reads every kind of footage as a :class:`~egodepth.data.sequence.Sequence`."""
