"""Baselines: the methods that the paper compares itself with, each written from its own paper, on the same videos."""
