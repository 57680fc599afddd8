"""Inference with a trained run: prediction, odometry, export and scoring."""
