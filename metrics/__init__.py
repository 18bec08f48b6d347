"""Segmentation metrics whose state is a sum: update, merge, compute."""
