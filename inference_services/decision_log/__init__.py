"""The decision log: takes the decision stream to parquet by day, and finds decisions there again."""
