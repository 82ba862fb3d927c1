"""Pipelines out of what users have: functions, datasets, PyDatasets, models."""
