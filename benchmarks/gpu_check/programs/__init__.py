"""Programs that the checks run in separate processes."""
