"""Watches the input pipeline of a running training, outside of any study."""
