"""Networks of the Panoptic-DeepLab family, their checkpoints, and post-processing."""
