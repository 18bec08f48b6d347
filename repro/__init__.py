"""Data sets, the evaluation run, the official scripts, and the run record."""
