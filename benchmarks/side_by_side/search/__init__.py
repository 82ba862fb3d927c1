"""Searches on grids and for real."""
