"""One local KServe for all tests of a process; each test leaves it without services."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from simulators.local_kserve import LocalKServe
from tests.local_kserve import PLACE, start


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKServe]:
    with start(tmp_path_factory.mktemp("local_kserve")) as server:
        yield server


@pytest.fixture
def api(local: LocalKServe) -> Iterator[Any]:
    client = local.api()
    yield client
    for item in client.list_namespaced_custom_object(*PLACE)["items"]:
        client.delete_namespaced_custom_object(*PLACE, item["metadata"]["name"])
