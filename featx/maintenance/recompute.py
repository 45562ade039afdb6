"""Are cached embeddings what the network gives? Some are recomputed, where images are known."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from featx import runtimes
from featx.backbones import keras_models
from featx.backbones.backbone import Backbone
from featx.cache.shards import EMBEDDING
from featx.cache.store import Store
from featx.errors import BackboneError, ImageError
from featx.extraction import probe
from featx.images import decoding, reduction
from featx.images.content_hash import Digest, of_content
from featx.images.preparation import Preparation

# What a key.json must name, besides the backbone, for its network to be built again.
_ASKED = ("weights", "layer", "pooling", "side", "precision")


@dataclass(frozen=True)
class Recomputation:
    """The result of recomputing embeddings.

    Attributes
    ----------
    cached : int
        Embeddings that are cached.
    known : int
        Those of an image that was at a known path when it was last read.
    compared : int
        Embeddings that were recomputed and compared.
    changed : int
        Chosen images that are gone or have another content now, and were skipped.
    worst : float
        The largest relative distance (L2) between a cached embedding and a new one.
    tolerance : float
        Up to which two embeddings count as the same.
    different : list of (path, distance)
        The images whose embeddings are farther apart.
    """

    cached: int
    known: int
    compared: int
    changed: int
    worst: float
    tolerance: float
    different: list[tuple[str, float]]


def backbone_of(store: Store, weights: str | None = None) -> Backbone:
    """Return the backbone that computed a store's embeddings.

    Parameters
    ----------
    store : Store
    weights : path, optional
        The weights file, where they were not Keras's ImageNet weights.

    Raises
    ------
    BackboneError
        It cannot be built here: other weights, another featx, or a network of the user's own.
    """
    spec = {name: value for name, value in store.spec.items() if name != "format"}
    wanted = spec.get("pixels")
    how = Preparation.of_policy(wanted)
    if how is None:
        raise BackboneError(f"its images were preprocessed differently ({wanted})")
    absent = [name for name in _ASKED if name not in spec]
    if absent:
        raise BackboneError(f"its key.json does not say its {' and '.join(absent)}")
    untrained = spec["weights"] == keras_models.UNTRAINED
    backbone = Backbone(
        spec["backbone"],
        weights=None if untrained else weights or "imagenet",
        layer=spec["layer"],
        pooling=spec["pooling"],
        precision=spec["precision"],
        decode=how.decode,
        resize=how.resize,
        filter=how.filter,
    )
    if backbone.side != spec["side"]:
        backbone = replace(backbone, image_size=spec["side"])
    # Asked before anything is fetched: a check must not download.
    if not untrained and not backbone.weights_path().is_file():
        raise BackboneError(f"its weights are not on disk ({backbone.weights_path()})")
    if backbone.spec() != spec:
        raise BackboneError(
            f"its weights differ from those at {backbone.weights_path()}; name the file "
            "with --weights"
            if not untrained
            else "it uses options that this version of featx does not know"
        )
    return backbone


def recompute(
    store: Store,
    backbone: Backbone,
    sources: Mapping[Digest, Path],
    count: int,
    seed: int,
    start: Callable[..., Any] = runtimes.start,
) -> Recomputation:
    """Recompute some embeddings, drawn at random from those whose images are known.

    Parameters
    ----------
    store : Store
    backbone : Backbone
        From ``backbone_of``.
    sources : mapping of digest to path
        From ``known_sources``, or of a data set at hand.
    count : int
        How many embeddings; fewer where fewer images are known and unchanged.
    seed : int
        Draws the same embeddings from the same store.
    start : callable
        Starts the runtime.
    """
    cached = sorted(
        {
            bytes(digest)
            for shard in store.index.shards
            for digest in shard.sha256[shard.status == EMBEDDING]
        }
    )
    # Of a content at hand there may be an embedding of its reduced form, too.
    sources = {**sources, **{reduction.reduced(one): path for one, path in sources.items()}}
    known = [digest for digest in cached if digest in sources]
    random.Random(seed).shuffle(known)
    chosen: list[tuple[Digest, np.ndarray]] = []
    changed = 0
    for digest in known:
        if len(chosen) == count:
            break
        pixels = _pixels(sources[digest], digest, backbone)
        if pixels is None:
            changed += 1
        else:
            chosen.append((digest, pixels))
    distances: list[tuple[Digest, float]] = []
    if chosen:
        runtime = start(backbone)
        for begin in range(0, len(chosen), runtime.batch_size):
            distances += _distances(store, runtime, chosen[begin : begin + runtime.batch_size])
    tolerance = probe.TOLERANCE[backbone.precision]
    return Recomputation(
        cached=len(cached),
        known=len(known),
        compared=len(distances),
        changed=changed,
        worst=float(np.fmax.reduce([far for _, far in distances], initial=0.0)),
        tolerance=tolerance,
        # NaN is not within it, either.
        different=[(str(sources[one]), far) for one, far in distances if not far <= tolerance],
    )


def _pixels(path: Path, digest: Digest, backbone: Backbone) -> np.ndarray | None:
    """Return the image if the file still has that content."""
    try:
        content = decoding.read(path)
        found = of_content(content)
        if digest not in (found, reduction.reduced(found)):
            return None
        how = backbone.preparation
        if digest != found:
            how = replace(how, decode="auto")
        return decoding.at_side(content, backbone.side, path.name, how=how)
    except ImageError:
        return None


def _distances(
    store: Store, runtime: Any, chosen: list[tuple[Digest, np.ndarray]]
) -> list[tuple[Digest, float]]:
    """Return how far a new embedding of each image lies from the cached one, relative to that."""
    side = chosen[0][1].shape[0]
    batch = np.zeros((runtime.batch_size, side, side, 3), np.uint8)
    batch[: len(chosen)] = [pixels for _, pixels in chosen]
    fresh = runtime.run(batch)[: len(chosen)]
    sha256 = np.frombuffer(b"".join(digest for digest, _ in chosen), np.uint8).reshape(-1, 32)
    X, missing = store.gather(sha256, fresh.shape[1])
    length = np.maximum(np.linalg.norm(X, axis=1), np.finfo(np.float32).tiny)
    distances = np.linalg.norm(fresh - X, axis=1) / length
    return [
        (digest, distance)
        for (digest, _), distance, gone in zip(chosen, distances.tolist(), missing, strict=True)
        if not gone  # else just found damaged, and quarantined
    ]
