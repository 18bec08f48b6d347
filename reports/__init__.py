"""Tables and verdicts, from run records alone."""
