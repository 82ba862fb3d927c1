"""Checks the project's claims against pipelines whose costs are known."""
