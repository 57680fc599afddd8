"""Readers of public data sets, one per data set."""
