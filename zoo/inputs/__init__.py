"""Pictures and videos of users: which files are meant, how each becomes RGB, and videos made like them."""
