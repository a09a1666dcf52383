"""All models: backbones, captioners and language models, and how they are loaded, saved and converted."""
