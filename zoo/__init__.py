"""Model zoo and reproduction harness for Panoptic-DeepLab."""
