"""Two constant images that show whether this environment computes what is cached."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from featx.cache.shards import EMBEDDING, ShardMetadata
from featx.cache.store import Store
from featx.errors import CacheCorruptError, CacheEnvironmentError
from featx.images import decoding
from featx.images.content_hash import Digest, of_content
from featx.runtimes import Runtime

# The relative distance (L2) up to which two embeddings of one image count as the same. Other
# kernels and other orders of summing give 1e-6 to 1e-5 in float32, a JPEG decoder that rounds
# otherwise a few 1e-4; another network or another preprocessing gives more than 1e-1. bfloat16 has
# 2**-8 of precision per number and float16 2**-11, which some hundred layers add up, as int8 does
# its 2**-8.
TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2, "float16": 5e-3, "int8": 5e-2}

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


def cached_by(store: Store, environment: dict[str, Any]) -> set[Digest]:
    """Return those of the two images whose embeddings by an environment are cached."""
    own = (shard for shard in store.index.shards if shard.environment == environment)
    return {digest for shard in own for digest in _entries(shard)}


def check(store: Store, runtime: Runtime, side: int, precision: str) -> None:
    """Raise unless this environment's embeddings of the two images are those of all others.

    Its own are cached with its first block: nothing is computed where they are there. They are
    compared even so: a process that was killed may have published and not compared them.

    Raises
    ------
    CacheEnvironmentError
        An embedding differs from the cached one by more than ``TOLERANCE``; nothing was added, and
        blocks of this environment that came later than that one were withdrawn.
    """
    here = runtime.environment()
    if all(environment == here for environment in store.environments()):
        return
    cached = list(_cached(store))
    mine = [each for each in cached if each.environment == here]
    others = [each for each in cached if each.environment != here]
    if not others:  # their shards were damaged: they are compared with ours when they add some
        return
    ours = mine[0].embeddings if mine else _computed(runtime, side)
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


def check_others(store: Store, runtime: Runtime, side: int) -> None:
    """Do the same with all that is cached now, whoever published it since the store was opened.

    For an environment that is new to a key, when its first block is published: of two that began
    at once, each of which found nothing to compare with, one at least sees the other's now.

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
    embeddings: dict[Digest, np.ndarray]


def _cached(store: Store) -> Iterator[_Cached]:
    for shard in store.index.shards:
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


def _computed(runtime: Runtime, side: int) -> dict[Digest, np.ndarray]:
    batch = np.zeros((runtime.batch_size, side, side, 3), np.uint8)
    embeddings = {}
    for i, (digest, pixels) in enumerate(images(side)):
        batch[i % runtime.batch_size] = pixels
        embeddings[digest] = runtime.run(batch)[i % runtime.batch_size]
    return embeddings


def _distance(ours: dict[Digest, np.ndarray], theirs: dict[Digest, np.ndarray]) -> float:
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
