"""The official evaluation scripts, each in its own process and folder."""
