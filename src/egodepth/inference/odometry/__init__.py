"""Trajectories from direct alignment or chained PoseNet motions, their unit and files."""
