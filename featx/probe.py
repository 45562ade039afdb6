"""Two constant pictures that tell whether this environment computes the rows that are kept."""

from __future__ import annotations

import base64
from functools import cache
from typing import Any

import numpy as np

from featx import images
from featx.digests import Digest, of_content
from featx.errors import CacheEnvironmentError
from featx.index import ShardIndex
from featx.runtimes import Runtime
from featx.store import Store

# The relative distance (L2) up to which two rows of one picture count as the same. Other kernels
# and other orders of summing give 1e-6 to 1e-5 in float32, a JPEG decoder that rounds otherwise a
# few 1e-4; another network or another preprocessing gives more than 1e-1. bfloat16 has 2**-8 of
# precision a number and float16 2**-11, which some hundred layers add up.
TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2, "float16": 5e-3}

# Coloured waves and shapes with sharp edges as JPEG, so that the decoder is tried as well.
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
    """Return the content digests of the two pictures."""
    first, second = (of_content(base64.b85decode(text)) for text in _JPEGS)
    return first, second


def pictures(side: int) -> list[tuple[Digest, np.ndarray]]:
    """Return digest and (side, side, 3) uint8 pixels of each of the two."""
    pixels = (images.at_side(base64.b85decode(text), side) for text in _JPEGS)
    return list(zip(digests(), pixels, strict=True))


def check(store: Store, runtime: Runtime, side: int, precision: str) -> None:
    """Raise unless the runtime gives the kept rows of the two pictures.

    Nothing is computed while the store is empty, or where a shard by this very environment is
    there: that one passed.

    Raises
    ------
    CacheEnvironmentError
        A row differs from the kept one by more than ``TOLERANCE``; nothing was added.
    """
    if runtime.environment() not in store.environments():
        _compare(store, runtime, side, precision)


def check_others(store: Store, runtime: Runtime, side: int) -> None:
    """Raise unless the runtime gives the rows that other environments keep of the two pictures.

    For an environment that is new to a key, when its first rows are kept: of two that began at
    once, each of which found nothing to compare with, one at least sees the other's rows now.

    Raises
    ------
    CacheEnvironmentError
    """
    recipe = {name: value for name, value in store.recipe.items() if name != "format"}
    # Anew, since this runs in a thread: the index of the store is asked in others.
    now = Store(store.root, recipe, store.dim)
    here = runtime.environment()
    now.index = ShardIndex(shard for shard in now.index.shards if shard.environment != here)
    _compare(now, runtime, side, recipe.get("precision", "float32"))


def _compare(store: Store, runtime: Runtime, side: int, precision: str) -> None:
    dim, shards = store.dim, store.index.shards
    if dim is None or not shards:
        return
    wanted = np.frombuffer(b"".join(digests()), np.uint8).reshape(-1, 32)
    kept, missing = store.gather(wanted, dim)
    if missing.all():  # their shard was damaged: there is nothing to compare with
        return
    batch = np.zeros((runtime.batch_size, side, side, 3), np.uint8)
    where = np.arange(2) % runtime.batch_size
    fresh = np.empty_like(kept)
    for i, (_, pixels) in enumerate(pictures(side)):
        batch[where[i]] = pixels
        fresh[i] = runtime.run(batch)[where[i]]
    length = np.maximum(np.linalg.norm(kept, axis=1), np.finfo(np.float32).tiny)
    distance = float((np.linalg.norm(fresh - kept, axis=1) / length)[~missing].max())
    if not distance <= TOLERANCE[precision]:  # NaN, too
        here, other = runtime.environment(), shards[0].environment
        raise CacheEnvironmentError(
            f"rows computed here differ from the kept ones by {distance:.2g} (relative; "
            f"{TOLERANCE[precision]:g} is allowed for {precision}).\n"
            f"kept: {_named(other, here)}\nhere: {_named(here, other)}\n"
            f"Nothing was added to {store.folder}. Use the environment that made the cache, or "
            "another cache folder (cache=..., --cache, or FEATX_CACHE)."
        )


def _named(environment: dict[str, Any], other: dict[str, Any]) -> str:
    """Return the runtime, and what differs between two environments."""
    names = [
        name
        for name in sorted({*environment, *other})
        if name == "runtime" or environment.get(name) != other.get(name)
    ]
    return ", ".join(f"{name} {environment.get(name, 'absent')}" for name in names)
