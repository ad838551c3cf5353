"""From the tables to MLflow."""
