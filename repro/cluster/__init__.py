"""Work that is dealt to processes on one machine or many, by Ray."""
