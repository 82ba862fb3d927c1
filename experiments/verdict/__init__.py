"""Judges what was measured: the winner, its ratio and its share of the limit. All pure."""
