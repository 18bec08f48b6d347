"""Pictures and videos of users: which files are meant, and how each becomes an RGB image."""
