"""Losses as plain functions: tensors in, per-pixel maps out; never a network, never a weight."""
