"""The ledger of a study: which runs are done, and their records in MLflow."""
