"""The on-demand view: the tiles merged as of a request, for whoever reads through Feast.

The transformer merges the same blobs with the same function (`window_merge.window_features`) through the fast reader.
"""

from __future__ import annotations

import warnings
from inspect import getsource
from types import FunctionType
from typing import cast

from feast import Field, OnDemandFeatureView, RequestSource
from feast.types import Float64, Int64

from feature_repo.sources import Offline
from feature_repo.tiles import ACTIVITY_FEATURES
from feature_repo.views import tile_views

# Said at every `apply`. It warns of offline retrieval, for which the history views are there.
warnings.filterwarnings("ignore", "On demand feature view is an experimental feature", RuntimeWarning)


def merge_activity(columns: dict[str, list]) -> dict[str, list[float]]:  # type: ignore[type-arg]
    """Merges the tile blobs of each row as of its `as_of_us`."""
    # Feast keeps this function's source text and runs it by itself: no name from outside of it exists there.
    import numpy as np  # noqa: PLC0415

    from feature_repo.tile_table import KindTiles  # noqa: PLC0415
    from feature_repo.tiles import ACTIVITY_FEATURES, ACTIVITY_KINDS  # noqa: PLC0415
    from feature_repo.window_merge import window_features  # noqa: PLC0415

    as_of_us = np.array(columns["as_of_us"], np.int64)
    tiles = {kind: KindTiles(columns[f"{kind}_tiles_blob"], range(len(as_of_us))) for kind in ACTIVITY_KINDS}
    values = window_features(tiles, as_of_us, lambda _what, _problem: None)
    return dict(zip(ACTIVITY_FEATURES, values.tolist(), strict=True))


def on_demand_views(offline: Offline) -> list[OnDemandFeatureView]:
    """`activity`: every window feature of an event's entities as of `as_of_us`, microseconds since the epoch."""
    request = RequestSource(name="request_instant", schema=[Field(name="as_of_us", dtype=Int64)])
    return [
        OnDemandFeatureView(
            name="activity",
            # Feast wants them exactly as it infers them, which is without descriptions: the history views have these.
            schema=[Field(name=name, dtype=Float64) for name in ACTIVITY_FEATURES],
            sources=[*tile_views(offline), request],
            udf=cast(FunctionType, merge_activity),
            udf_string=getsource(merge_activity),
            mode="python",
            description="What the event's entities did until a given instant, merged from their tiles.",
        )
    ]
