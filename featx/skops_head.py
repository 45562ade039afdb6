"""Classifiers that are not featx's own, through skops and a fixed list of trusted types."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

from featx.errors import ModelFormatError, ModelTrustError
from featx.head_state import Shape

# Types that skops does not know of itself. A fixed list: it never grows by what a file asks for.
TRUSTED = (
    "featx.heads.checked.CalibratedHead",
    "featx.heads.checked.MLPHead",
    "featx.heads.checked.NearestHead",
    "featx.heads.regression.LogisticHead",
    "featx.heads.regression.StratifiedFolds",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
)


def write(head: Any) -> bytes:
    """Return a fitted classifier in skops's format.

    Raises
    ------
    ModelTrustError
        It holds types that `read` would refuse.
    """
    import skops.io

    content = skops.io.dumps(head)
    odd = sorted(set(skops.io.get_untrusted_types(data=content)) - set(TRUSTED))
    if odd:
        raise ModelTrustError(
            f"{type(head).__name__} cannot be saved: {', '.join(odd)} could not be loaded again "
            "without trusting whoever made the file. Take one of featx's heads, or keep it with "
            "joblib.dump and read it with featx.load_unsafe_pickle where you made it yourself."
        )
    return content


def read(name: str, content: bytes, shape: Shape) -> Any:
    """Return the classifier of skops bytes, if all of its types are trusted ones.

    Raises
    ------
    ModelTrustError
        It holds other types, or unpacks to far more than its size.
    ModelFormatError
        It is damaged, or is for other classes or rows.
    """
    import skops.io

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            large = sum(info.file_size for info in archive.infolist()) > 100 * len(content)
            json.loads(archive.read("schema.json") if not large else b"{}")
        odd = set(skops.io.get_untrusted_types(data=content)) - set(TRUSTED) if not large else set()
    except Exception as error:  # skops reports damage by many exceptions
        raise ModelFormatError(f"{name}: its head is no whole skops file: {error}.") from error
    if large or odd:
        what = ", ".join(sorted(odd)[:5]) or "a small file that unpacks to a huge one"
        raise ModelTrustError(
            f"{name} holds {what:.300}, which featx does not trust: it could run code. Nothing of "
            "it was run. There is no option to trust it; ask for one of featx's heads."
        )
    try:
        head = skops.io.loads(content, trusted=list(TRUSTED))
        fits = list(head.classes_) == list(shape.classes) and head.n_features_in_ == shape.dim
    except Exception as error:
        raise ModelFormatError(f"{name}: its head is damaged: {error}.") from error
    if not fits:
        raise ModelFormatError(f"{name}: its head is for other classes or rows.")
    return head
