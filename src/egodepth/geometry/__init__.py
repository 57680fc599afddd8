"""Cameras, rigid motions, warping and trajectories. Conventions: see docs/conventions.md."""
