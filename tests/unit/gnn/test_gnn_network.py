"""Weights on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from inference_services.errors import BundleError
from inference_services.gnn_predictor.network import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    FraudGnn,
    GnnConfig,
    load_network,
    save_network,
)


@pytest.fixture
def network() -> FraudGnn:
    torch.manual_seed(3)
    network = FraudGnn(GnnConfig(node_features=("a", "b"), hidden=8, window_days=9, logit_offset=-1.5))
    network.edge_scale.fit(torch.randn(20, len(network.edge_scale.mean)))
    return network


def test_what_is_written_is_read_back_to_the_bit(network: FraudGnn, tmp_path: Path) -> None:
    save_network(network, tmp_path)
    again = load_network(tmp_path)
    assert again.config == network.config
    assert not again.training
    read = again.state_dict()
    assert list(read) == list(network.state_dict())
    assert all(torch.equal(read[name], values) for name, values in network.state_dict().items())


def test_the_weights_may_be_read_by_whom_their_configuration_may(network: FraudGnn, tmp_path: Path) -> None:
    save_network(network, tmp_path)
    assert (tmp_path / WEIGHTS_FILE).stat().st_mode == (tmp_path / CONFIG_FILE).stat().st_mode


def test_weights_of_another_shape_are_refused(network: FraudGnn, tmp_path: Path) -> None:
    save_network(network, tmp_path)
    weights = load_file(tmp_path / WEIGHTS_FILE)
    save_file({**weights, "first.plain.0.weight": torch.zeros(8, 3)}, tmp_path / WEIGHTS_FILE)
    with pytest.raises(BundleError, match="does not fit the network"):
        load_network(tmp_path)


def test_scales_of_nothing_stay_as_they_were(network: FraudGnn) -> None:
    before = network.edge_scale.mean.clone()
    network.edge_scale.fit(torch.zeros(0, len(before)))
    torch.testing.assert_close(network.edge_scale.mean, before)
