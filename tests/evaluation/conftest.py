from __future__ import annotations

from typing import Any

import pytest
from sklearn.linear_model import LogisticRegression

from featx.evaluation.protocol import extractions, plan
from tests.evaluation.seam import QUICK, Seam


@pytest.fixture
def seam(monkeypatch: pytest.MonkeyPatch) -> Seam:
    found = Seam()
    monkeypatch.setattr(extractions, "extract", found.extract)
    monkeypatch.setattr(plan, "FineTuned", found.fine_tuned)
    return found


@pytest.fixture
def quick() -> dict[str, Any]:
    return {"heads": {"lr": LogisticRegression()}, **QUICK}
