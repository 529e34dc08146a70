"""What one Dask worker does: read its share of the rows, join the others by LightGBM's own sockets, add trees together.

Sent to workers by value, so everything is imported inside. LightGBM's network is one a process: a worker does one of these at a
time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def free_port() -> int:
    """Find a port that nobody listens on, on the machine that this runs on."""
    import socket  # noqa: PLC0415 - sent to workers by value

    with socket.socket() as one:
        one.bind(("", 0))
        return int(one.getsockname()[1])


def train_share(rows: Any, share: tuple[int, int], settings: Mapping[str, Any], by_category: bool) -> str | None:  # noqa: FBT001
    """Train on a share of the rows, with the workers that have the others; the first gives the model's text.

    Raises what reading and LightGBM raise; the network is freed whatever happens.
    """
    import lightgbm  # noqa: PLC0415 - sent to workers by value
    import numpy as np  # noqa: PLC0415

    index, of = share
    matrix = rows.read("train", index, of)
    x, y, weight = matrix.x, matrix.y, matrix.weight
    sizes = None
    if matrix.group is not None:
        order = np.argsort(matrix.group, kind="stable")
        x, y, weight = x[order], y[order], None if weight is None else weight[order]
        sizes = np.unique(matrix.group, return_counts=True)[1]
    categorical = (
        [place for place, name in enumerate(matrix.names) if name in matrix.categorical] if by_category else []
    )
    if categorical:
        x = x.copy()
        for place in categorical:
            x[x[:, place] < 0, place] = np.nan
    names = [f"column_{place}" for place in range(len(matrix.names))]
    data = lightgbm.Dataset(
        x, y, weight=weight, group=sizes, categorical_feature=categorical, feature_name=names, params=dict(settings)
    )
    booster = lightgbm.Booster(dict(settings), data)
    del matrix, x, y, weight  # binned by now: an eighth of the bytes
    try:
        for _ in range(int(settings["num_iterations"])):
            booster.update()
        return str(booster.model_to_string()) if index == 0 else None
    finally:
        booster.free_network()
