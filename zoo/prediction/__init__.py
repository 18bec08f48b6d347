"""What a network predicts for an image: its maps, their pictures and tables, and their files."""
