"""The services that KServe runs: transformer, LightGBM predictor, GNN predictor and drift detector."""
