"""Predictions and trajectories against the ground truth, and loss landscapes."""
