"""Two constant images that show whether this environment computes what is cached."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Any

import numpy as np

from featx.cache.shards import EMBEDDING, MISSING, Block, ShardMetadata, block_id
from featx.cache.store import Store
from featx.errors import CacheCorruptError, CacheEnvironmentError
from featx.extraction.batches import checked
from featx.images import decoding
from featx.images.content_hash import Digest, of_content
from featx.runtimes import Runtime

# The relative distance (L2) up to which two embeddings of one image count as the same. Other
# kernels and other orders of summing give 1e-6 to 1e-5 in float32, a JPEG decoder that rounds
# otherwise a few 1e-4; another network or another preprocessing gives more than 1e-1. bfloat16 has
# 2**-8 of precision per number and float16 2**-11, which some hundred layers add up, as int8 does
# its 2**-8.
TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2, "float16": 5e-3, "int8": 5e-2}

Embeddings = dict[Digest, np.ndarray]

# Coloured waves and shapes with sharp edges as JPEG, so that the decoder is tested as well.
_JPEGS = (
    "|JeWF01!$>Nk#wx0RR9200961|JwjV02B@n5)Ta&5)cv>6%-gAG9exu93DL^E+jHZKuk+VKt@GST61DhRc%&9Mr4R("
    "ZFhTtf`Lw8jhBplmUDiAeE-`3Lje^R7akfOJ0T%Ed{ahKe0+R-e0+R-e0+R-e0+R-e0+R-e0+R-e0+R-e0+R-e0+R-"
    "e0+R-e0+R-e0+R-e0=}F01*fPAOI)>0U`hb5di}c0sq7R8UO$S0|5a50000000000000050R#pD1OLPT9}oZn0s;a9"
    "0RR91000000003300aXO1u+vLK^6bR02l!P0|5a50000000000000031O)~H|HJ?y5dZ=L0s#XB000000000000IL5"
    "0R#~eAtEsa6BHyu|Jncy0|5X65d#qbKLCGT#x_yCNU$-w{F$}5_=j>2EJ4vQs=%`Ds7%z_LqRUtpt%Xqm4^-QU{7k?"
    "in$vx#eDeOe4V-Djas=U5MR%C5jPxh4xu0CRCV<Tm3pXO;%I(<x7%?g+8PH!BC}Q1j<+?hXC6`5mD;jpJqbW^?;RT{"
    "0hz|e@wu47G9!JBYua=JWX7q)1{(rbx5xOD=tLFAFu60t(IKh@_47FWK%?1&&)r;sh+V=x^@E@e<d=vr?5gMg*#",
    "|JeWF01!$>Nk#wx0RR9200961|JwjV02B@n5)Ta&5)cv>6%-gAG9exu93DL^E+jHZKuk+VKt@GST61DhRc%&9Mr4R("
    "ZFhTtf`Lw8jhBplmUDiAeE-`3Lje^R7akfOJ0T%Ed{ahKe0+R-e0+R-e0+R-e0+R-e0+R-e0+R-e0+R-e0+R-e0+R-"
    "e0+R-e0+R-e0+R-e0=}F01*fPC;%V>0U`hb5di}c0sq7R8UO$S0|5a50000000000000050s{mA2LHqWEf4?z1O);E"
    "2L%8C00000000010s{mQ6H<{9Aq6pE6csW-LPLR3Q&f`C|HJ?o0RaF50RR91000000000000aU91pxoV03Hzl0s{a7"
    "0|5X400000000010ssRM5-|h?AwmDz01N{G00I#M5dc2`#7!j5M1nto(}$O~SRrdoH==qIzd<@p*qjO1;s!v(_d5Ro"
    "WXWMwQG#WrixYrTMTx+htss}O6Td+UXt6i}b>PKM<kqRhs2mREtrKKYQWMbREHtuSlwgKxXt6j2G+3MjCzi;(b6~FZ"
    "$z$`}+33%Nz^M0!PE0N0&`{9SsI-*ooc#WQ*Jo$#H~NrO#~E!jG`52Aa!GU;)mY77)+SD$i~#B>ri&ARQ$>lu039EK"
    "H19@#3A~r^WsQh#D@K@fH>P}~bDzKfD;27p60uSPpilqV",
)


@cache
def digests() -> tuple[Digest, Digest]:
    """Return the content digests of the two images."""
    first, second = (of_content(base64.b85decode(text)) for text in _JPEGS)
    return first, second


def images(side: int) -> list[tuple[Digest, np.ndarray]]:
    """Return digest and (side, side, 3) uint8 pixels of each of the two."""
    pixels = (decoding.at_side(base64.b85decode(text), side) for text in _JPEGS)
    return list(zip(digests(), pixels, strict=True))


def check(
    store: Store, runtime: Runtime, side: int, precision: str, *, always: bool = False
) -> Embeddings | None:
    """Raise unless this environment's embeddings of the two images are those of all others.

    Its own are cached before its first block: nothing is computed where they are there. They are
    compared even so: a process that was killed may have published and not compared them.

    Parameters
    ----------
    always : bool, default=False
        Whether they are computed anew and compared with those of its own versions, too.

    Returns
    -------
    dict of Digest to numpy.ndarray of shape (dim,), or None
        What was computed, if anything was.

    Raises
    ------
    CacheEnvironmentError
        An embedding differs from the cached one by more than ``TOLERANCE``; nothing was added, and
        blocks of this environment that came later than that one were withdrawn.
    """
    here = runtime.environment()
    if not always and all(environment == here for environment in store.environments()):
        return None
    cached = list(_cached(store))
    mine = [each for each in cached if each.environment == here]
    others = [each for each in cached if always or each.environment != here]
    if not others:  # their shards were damaged: they are compared with ours when they add some
        return None
    computed = _computed(runtime, side) if always or not mine else None
    ours = mine[0].embeddings if computed is None else computed
    for other in others:
        distance = _distance(ours, other.embeddings)
        if not distance <= TOLERANCE[precision]:  # NaN, too
            for each in mine:
                if each.published > other.published:
                    store.withdraw(each.block)
            raise CacheEnvironmentError(
                f"embeddings computed here differ from the cached ones by {distance:.2g} "
                f"(relative; {TOLERANCE[precision]:g} is allowed for {precision}).\n"
                f"cached: {_named(other.environment, here)} (shards/{other.block}.h5)\n"
                f"here: {_named(here, other.environment)}\n"
                f"Nothing was added to {store.location()}. Use the environment that made the "
                "cache, or another cache folder (cache=..., --cache, or FEATX_CACHE)."
            )
    return computed


def publish(
    store: Store, runtime: Runtime, side: int, computed: Embeddings | None = None
) -> str | None:
    """Publish the two images in a shard of their own, if this environment has none there.

    Parameters
    ----------
    computed : dict of Digest to numpy.ndarray of shape (dim,), optional
        Their embeddings, where they were computed already.

    Returns
    -------
    str or None
        The name of a block that was added.
    """
    here = runtime.environment()
    if any(shard.environment == here and _entries(shard) for shard in store.loaded()):
        return None
    computed = _computed(runtime, side) if computed is None else computed
    for times in count(1):
        # Contents name a block: where another environment has the name, these have them twice.
        order = digests() * times
        sha256 = np.frombuffer(b"".join(order), np.uint8).reshape(-1, 32)
        name = block_id(store.key, runtime.batch_size, sha256)
        cached = store.load(name)
        if cached is None:
            features = np.stack([computed[digest] for digest in order])
            status = np.where(np.isfinite(features).all(axis=1), EMBEDDING, MISSING)
            if (status == MISSING).all():
                return None  # the network gives no numbers: each image will tell
            features[status == MISSING] = np.nan
            status = status.astype(np.uint8)
            store.publish(Block(features, sha256, status, [], runtime.batch_size, here))
            cached = store.load(name)
            if cached is not None and cached.environment == here:
                return name
        if cached is not None and cached.environment == here:
            return None
    return None


def shards(store: Store) -> tuple[str, ...]:
    """Return the shards with the two images that the store knows of."""
    return tuple(sorted(shard.name for shard in store.loaded() if _entries(shard)))


def check_others(store: Store, runtime: Runtime, side: int) -> None:
    """Do the same as ``check`` with all that is cached now, whoever published it meanwhile.

    For an environment that is new to a key, when its probe images are published: of two that
    began at once, each of which found nothing to compare with, one at least sees the other's now.

    Raises
    ------
    CacheEnvironmentError
    """
    spec = {name: value for name, value in store.spec.items() if name != "format"}
    # Anew, since this runs in a thread: the index of the store is asked in others.
    now = Store(store.storage, spec, store.dim)
    check(now, runtime, side, spec.get("precision", "float32"))


@dataclass(frozen=True)
class _Cached:
    """The embeddings of the two images, or of one of them, in one shard."""

    published: int
    block: str
    environment: dict[str, Any]
    embeddings: Embeddings


def _cached(store: Store) -> Iterator[_Cached]:
    for shard in store.loaded():
        entries = _entries(shard)
        if not entries:
            continue
        block = shard.name.removesuffix(".h5")
        # Read here and not by the store, which would give those of one environment alone.
        with suppress(CacheCorruptError, OSError):
            features = store.read(shard.name).features
            embeddings = {digest: features[entry] for digest, entry in entries.items()}
            yield _Cached(shard.stat.modified, block, shard.environment, embeddings)


def _entries(shard: ShardMetadata) -> dict[Digest, int]:
    """Return the entries of the two images in a shard."""
    return {
        digest: int(entry)
        for digest in digests()
        for entry in np.flatnonzero((shard.sha256[:, 0] == digest[0]) & (shard.status == EMBEDDING))
        if bytes(shard.sha256[entry]) == digest
    }


def _computed(runtime: Runtime, side: int) -> Embeddings:
    drawn = images(side)
    embeddings: Embeddings = {}
    for start in range(0, len(drawn), runtime.batch_size):
        part = drawn[start : start + runtime.batch_size]
        batch = np.zeros((runtime.batch_size, side, side, 3), np.uint8)
        batch[: len(part)] = [pixels for _, pixels in part]
        features = checked(runtime, runtime.run(batch))
        embeddings |= {digest: features[i] for i, (digest, _) in enumerate(part)}
    return embeddings


def _distance(ours: Embeddings, theirs: Embeddings) -> float:
    """Return the largest relative distance (L2) of the images that both have."""
    tiny = np.finfo(np.float32).tiny
    found = [
        np.linalg.norm(ours[digest] - other) / max(np.linalg.norm(other), tiny)
        for digest, other in theirs.items()
        if digest in ours
    ]
    return float(np.max(found, initial=0.0))


def _named(environment: dict[str, Any], other: dict[str, Any]) -> str:
    """Return the runtime, and what differs between two environments."""
    names = [
        name
        for name in sorted({*environment, *other})
        if name == "runtime" or environment.get(name) != other.get(name)
    ]
    return ", ".join(f"{name} {environment.get(name, 'absent')}" for name in names)
