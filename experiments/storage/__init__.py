"""What a study stores, and where: attributes in Optuna's storage and runs in MLflow."""
