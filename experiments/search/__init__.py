"""Finds what is worth trying: the bottleneck, the axes that may help, and the first trials."""
