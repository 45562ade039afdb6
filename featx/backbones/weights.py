"""Where weights lie and what identifies them, without loading a network."""

from __future__ import annotations

import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from featx.backbones.architectures import FILE_HASHES
from featx.errors import BackboneError, WeightsIntegrityError


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


@lru_cache(maxsize=64)
def note(path: Path, *stat: int) -> str:
    """Return a sentence on weights that are not those that Keras publishes under the name, or "".

    One flipped bit gives other embeddings, as do other weights under a published name. Of a name
    that Keras has no digest for, nothing is known.
    """
    published = FILE_HASHES.get(path.name)
    if published is None:
        return ""
    name = "sha256" if len(published) == 64 else "md5"
    with open(path, "rb") as file:
        came = hashlib.file_digest(file, name).hexdigest()
    if came == published:
        return ""
    return (
        f"the weights {path} are not those that Keras publishes under this name: {name} {came}, "
        f"published {published} (sha256 {file_digest(path, *stat)[:12]}). If they are not "
        "meant to be others, delete the file, and Keras fetches it again"
    )


def refuse_unlearned(network: Any, path: Path) -> None:
    """Raise unless every weight is finite and every kernel has a value other than 0.

    A kernel has two dimensions or more. Biases, and the shift and mean of a normalisation, are all
    zero in good networks, too.

    Raises
    ------
    WeightsIntegrityError
    """
    for weight in network.weights:
        values = np.asarray(weight)
        if values.dtype.kind != "f" and values.dtype.name != "bfloat16":
            continue
        if not np.isfinite(values.astype(np.float32)).all():
            raise WeightsIntegrityError(
                f"{path} holds NaN or infinity in {weight.path}, expected finite numbers. The file "
                "is damaged: delete it and fetch it again."
            )
        if values.ndim >= 2 and not values.any():
            raise WeightsIntegrityError(
                f"{path} holds nothing but zeros in {weight.path}, a kernel of {values.shape}, so "
                "every image would get the same embedding. The file is damaged, or was saved "
                "before it was trained: fetch it again."
            )


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
