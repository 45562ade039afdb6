"""Where weights lie and what identifies them, without loading a network."""

from __future__ import annotations

import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import BackboneError


def keras_home() -> Path:
    """Return Keras's folder by Keras's own rule, without importing Keras."""
    if "KERAS_HOME" in os.environ:
        return Path(os.environ["KERAS_HOME"]).expanduser()
    base = Path("~").expanduser()
    return (base if os.access(base, os.W_OK) else Path("/tmp")) / ".keras"  # noqa: S108


@lru_cache(maxsize=64)
def file_digest(path: Path, *_stat: int) -> str:
    """Return the sha256 of a file, read again only when its size, time or inode changed."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_config(name: str, model: Any) -> bytes:
    """Return a model's configuration as JSON.

    Raises
    ------
    BackboneError
        The model cannot describe itself.
    """
    try:
        config = json.loads(model.to_json())
    except Exception as error:
        raise BackboneError(
            f"the model for {name!r} cannot describe itself ({error}); a cache key needs that. "
            "Give its layers get_config, or wrap it in a functional keras.Model."
        ) from error
    config.pop("compile_config", None)
    return json.dumps(config, sort_keys=True).encode()


def model_digest(config: bytes, model: Any) -> str:
    """Return the sha256 of a model's configuration and of the weights it has now."""
    digest = hashlib.sha256(config)
    for weight in model.weights:
        values = np.ascontiguousarray(np.asarray(weight))
        digest.update(f"{values.shape}{values.dtype.str}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()
