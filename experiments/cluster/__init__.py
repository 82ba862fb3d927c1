"""Trials and rounds on the nodes of a Ray cluster."""
