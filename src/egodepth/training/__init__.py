"""Objective, Lightning module, recipes and the training run."""
