-- Run once, by the image, when its volume is empty: users apart from runs, so that neither migrates the other's tables.
CREATE DATABASE mlflow_auth OWNER mlflow;
