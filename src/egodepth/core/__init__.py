"""Basics for all other packages: errors, files, configuration."""
