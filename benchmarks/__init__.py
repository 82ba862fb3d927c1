"""Side-by-side comparisons, grids and the audit; run from a checkout, imported by no floor."""
