"""Settings of the model, data, losses and training, and the recipes."""
