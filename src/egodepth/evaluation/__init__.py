"""Scores of depth maps and trajectories, whoever made them: arrays in, numbers out."""
