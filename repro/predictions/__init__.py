"""Predictions of any model on disk: their forms, what is wrong with them, and corrected copies."""
