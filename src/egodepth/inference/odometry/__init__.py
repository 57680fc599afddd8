"""Trajectories: direct alignment over a window, chains of PoseNet's motions, their unit and files."""
