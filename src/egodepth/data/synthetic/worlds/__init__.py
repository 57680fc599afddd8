"""Rendered worlds of many kinds."""
