"""One evaluation run."""
