"""Measures what helps against each symptom of a slow input pipeline."""
