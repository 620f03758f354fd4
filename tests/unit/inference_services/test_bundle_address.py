"""A bundle's address leads back to its folder, wherever the claim is mounted."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference_services.bundle_address import address_of, folder_of
from inference_services.errors import BundleError

BUNDLE = "fraud-lightgbm/3-0a1b2c3d4e5f"


def test_a_folder_of_this_machine_is_found_again(tmp_path: Path) -> None:
    address = address_of(tmp_path / "a b" / "1", tmp_path, "")
    assert address.startswith("file:///")
    assert folder_of(address, Path("/elsewhere")) == tmp_path / "a b" / "1"


def test_a_path_in_a_claim_is_found_where_the_claim_is_mounted() -> None:
    address = address_of(Path("/mnt/bundles") / BUNDLE, Path("/mnt/bundles"), "fraud-bundles")
    assert address == f"pvc://fraud-bundles/{BUNDLE}"
    assert folder_of(address, Path("/data")) == Path("/data") / BUNDLE


@pytest.mark.parametrize(
    "address",
    ["s3://bucket/x", "", "/mnt/bundles/x", "file://host/x", "file:", "pvc:///x", "pvc://claim/../../etc", "mlflow:/x"],
)
def test_an_address_that_names_no_folder_is_refused(address: str) -> None:
    with pytest.raises(BundleError, match="must be file:///<folder> or pvc://<claim>/<path>"):
        folder_of(address, Path("/data"))
