"""What folds do with copies: kept together, or divided, and what that makes of a figure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from featx.evaluation.leaks.leakage import MANY_COPIES, Leaks
from featx.evaluation.protocol import splits, trials
from featx.evaluation.protocol.trials import Method


def judged(leaks: Leaks, y: np.ndarray, folds: int, seed: int) -> Leaks:
    """Return the leaks with whether folds of the training pictures divide copies."""
    groups = leaks.groups["train"]
    apart = any(
        np.isin(groups[score], groups[fit]).any()
        for fit, score in splits.folds_of(y, folds, seed, groups)
    )
    return replace(leaks, apart=apart)


def tried(leaks: Leaks, head: Method, X: np.ndarray, y: np.ndarray, folds: int, seed: int) -> Leaks:
    """Return the leaks with what a head would seem to get on folds that divide copies.

    Parameters
    ----------
    leaks : Leaks
        As ``judged`` returned them; left as they are where copies are few, or divided anyway.
    """
    if leaks.apart or leaks.copied < MANY_COPIES:
        return leaks
    accuracy = trials.cross_validate(head, X, y, splits.folds_of(y, folds, seed), seed).accuracy
    return leaks if np.isnan(accuracy) else replace(leaks, divided=accuracy)
