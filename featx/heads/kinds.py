"""The name, in `featx.HEADS`, of a head that featx ships."""

from __future__ import annotations

from typing import Any

from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from featx.dense import DenseClassifier
from featx.heads import (
    CalibratedHead,
    LogisticHead,
    MLPHead,
    NearestHead,
    PrimalSVC,
    RidgeHead,
    ScaledHead,
    StratifiedFolds,
)
from featx.heads.boosting.xgboost_head import XGBoostHead


def kind_of(head: Any) -> str | None:
    """Return the name of a head that featx ships, or None for any other classifier."""
    kinds = {LogisticHead: "logistic", XGBoostHead: "xgboost", DenseClassifier: "dense"}
    kinds |= {NearestHead: "nearest", RidgeHead: "ridge"}
    scaled = type(head) in (ScaledHead, Pipeline)
    if scaled and len(head.steps) == 2 and type(head[0]) is StandardScaler:
        if type(head[1]) is MLPHead:
            return "mlp"
        fits = type(head[1]) is CalibratedHead and type(head[1].estimator) in (PrimalSVC, LinearSVC)
        fits = fits and type(head[1].cv) is StratifiedFolds and not head[1].ensemble
        return "linear_svm" if fits and head[1].method == "temperature" else None
    return kinds.get(type(head))
