"""Data sets in the Cityscapes format."""
