"""MLflow's runs: what a study writes there, how it is found again, and how the UI shows it."""
