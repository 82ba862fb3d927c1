"""What is kept, and where: Optuna's attributes, MLflow's runs, configurations to load."""
