"""Backbones, from the image to multi-level features."""
