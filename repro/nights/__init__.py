"""Evaluates many entries, each in its own process."""
