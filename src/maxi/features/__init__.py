"""Embeddings of videos, stored, and the inputs of training."""
