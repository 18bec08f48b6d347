"""What every data set offers to a run."""
