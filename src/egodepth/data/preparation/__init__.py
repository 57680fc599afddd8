"""Prepares footage for training: poses, camera, stride, static mask and dense depth labels."""
