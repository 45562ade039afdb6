"""Heads under joblib.parallel_config("dask"): the matrix goes to the workers once, if at all."""

from __future__ import annotations

from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.model_selection import cross_val_score

from featx import heads

distributed = pytest.importorskip("distributed", reason="pip install 'featx[dask]'")


def test_cross_validation_sends_the_matrix_once_and_a_search_for_c_never(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 40), dtype=np.float32)
    y = np.array(["a", "b", "c"])[(X[:, :3].argmax(axis=1))]
    submitted: list[str] = []
    sent: list[int] = []
    submit, scatter = distributed.Client.submit, distributed.Client._scatter

    def noted(self: Any, function: Any, *args: Any, **options: Any) -> Any:
        submitted.append(str(options.get("key")))
        return submit(self, function, *args, **options)

    async def weighed(self: Any, data: Any, *args: Any, **options: Any) -> Any:
        each = data if isinstance(data, list) else [data]  # joblib gives the array alone
        sent.extend(one.nbytes for one in each if isinstance(one, np.ndarray))
        return await scatter(self, data, *args, **options)

    monkeypatch.setattr(distributed.Client, "submit", noted)
    monkeypatch.setattr(distributed.Client, "_scatter", weighed)
    with (
        distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            processes=False,
            dashboard_address=":0",
            protocol="tcp",
            host="127.0.0.1",
        ) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config("dask"),
    ):
        alone = heads.logistic().fit(X, y)
        assert (submitted, sent) == ([], [])
        scores = cross_val_score(heads.logistic(), X, y, cv=5)
        assert len(submitted) == 5
        assert sent.count(X.nbytes) == 1
    assert scores.mean() > 0.8
    assert alone.score(X, y) > 0.8
