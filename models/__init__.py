"""Flax modules: encoders, decoders and encoder-decoders."""
