"""How a study runs: check, diagnosis, trials, confirmation."""
