"""Files on disk: the cache, atomic writes, locks."""
