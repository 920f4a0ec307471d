"""MLflow as the tracker: runs, models, versions and aliases, mirrored from the ledger."""
