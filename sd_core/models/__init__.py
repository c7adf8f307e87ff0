"""What a model is made of: networks, and the codecs that make the space they work in."""
