"""The machine that measures: what it is, and what makes its measurements noisy."""
