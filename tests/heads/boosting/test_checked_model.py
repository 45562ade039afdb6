"""An XGBoost model is checked before XGBoost sees it."""

from __future__ import annotations

import numpy as np

from featx import heads
from featx.errors import ModelFormatError
from featx.heads.boosting import checked_model
from tests.heads.blobs import blobs


def test_random_damage_to_trees_never_reaches_xgboost_unchecked() -> None:
    X, y = blobs(36, dim=12)
    head = heads.xgboost(n_estimators=2).fit(X, y)
    raw = bytes(head.model_.get_booster().save_raw("ubj"))
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(1500):
        damaged = bytearray(raw)
        for position in rng.integers(0, len(raw), rng.integers(1, 4)):
            damaged[position] = rng.integers(0, 256)
        try:
            checked = checked_model.checked(bytes(damaged), 12, 3)
        except ModelFormatError:
            refused += 1
            continue
        for one in checked["learner"]["gradient_booster"]["model"]["trees"]:
            inner = one["left_children"] != -1
            for name in ("left_children", "right_children"):
                assert (one[name][inner] < len(inner)).all()
                assert (one[name][inner] > np.flatnonzero(inner)).all()
            assert (one["split_indices"] < 12).all()
    assert refused > 300
