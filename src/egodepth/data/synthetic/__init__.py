"""Rendered footage with exact depth, poses and camera."""
