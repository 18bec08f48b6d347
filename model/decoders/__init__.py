"""Decoders and heads, from features to maps."""
