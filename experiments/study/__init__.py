"""How a study runs: inspection, diagnosis, trials, confirmation."""
