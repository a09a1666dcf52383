"""The rendered world: a drawn person acts, and a tiny CLIP and captioner are trained on it."""
