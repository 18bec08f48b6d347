"""Bundled archives; the registry refers to them with package:// addresses."""
