"""What a model is made of (networks, prompts into numbers, codecs), and how it is saved, loaded and found by name."""
