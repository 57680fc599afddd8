"""Every setting of model, data, losses and training, and the recipes."""
