"""Comparisons, grids and audits, run from a checkout and never imported by the floors."""
