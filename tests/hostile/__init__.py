"""Hostile V2 requests from a seed: valid ones, broken in one or several ways, over REST and over gRPC."""
