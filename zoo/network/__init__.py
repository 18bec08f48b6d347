"""A restored network of an entry, and what is done with it."""
