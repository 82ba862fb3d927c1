"""What is searched and recorded: Optuna studies over pipelines, tracked in MLflow."""
