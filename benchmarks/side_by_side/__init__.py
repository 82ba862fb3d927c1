"""Compares this project's search and its results with what users would do instead."""
