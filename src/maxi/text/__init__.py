"""From words to words: names, verbs, phrases, and what language models replied."""
