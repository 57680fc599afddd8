"""Training: snippets, objective, Lightning module, and runs."""
