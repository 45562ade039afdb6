from __future__ import annotations

from featx.evaluation.report import environment


def test_environment_names_the_versions_and_not_the_machine() -> None:
    import platform

    found = {**environment.versions(), **environment.hardware()}
    assert found["featx"]
    assert found["scikit-learn"]
    assert found["Cores usable"].isdigit()
    node = platform.node()
    assert not node or node not in " ".join(found.values()).split()
