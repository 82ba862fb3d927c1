"""What is kept, and where: Optuna's attributes and MLflow's runs."""
