"""Tables of published and measured numbers."""
