"""Footage of every kind as one thing: a :class:`~egodepth.data.sequence.Sequence`."""
