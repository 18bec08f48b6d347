"""Reads files of web servers and storage buckets, and keeps them in a cache of bounded size."""
