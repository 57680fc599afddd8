"""Scores of predictions and trajectories against ground truth, and loss landscapes."""
