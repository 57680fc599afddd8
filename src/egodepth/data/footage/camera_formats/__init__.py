"""Readers for camera files of other programs, one module per family of formats."""
