"""The registered models: what a bundle's manifest, the registry and the predictors call them."""

from __future__ import annotations

LIGHTGBM = "fraud-lightgbm"
GNN = "fraud-gnn"
FUSION = "fraud-fusion"
MODELS = (LIGHTGBM, GNN, FUSION)
