"""Losses as plain functions from tensors to per-pixel maps, without networks or loss weights."""
