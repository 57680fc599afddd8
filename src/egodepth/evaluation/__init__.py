"""Metrics of depth maps and trajectories from any source: arrays in, numbers out."""
