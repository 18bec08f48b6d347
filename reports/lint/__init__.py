"""Compares published tables with the registry."""
