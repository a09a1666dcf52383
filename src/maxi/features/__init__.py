"""Embeddings of videos, their store on disk, and the inputs of training."""
