"""Mutated images, read one after the other in a process of its own.

As a program: the seed, the number and the file to note progress in; prints the outcomes as JSON.
"""

from __future__ import annotations

import json
import mmap
import random
import resource
import signal
import struct
import sys
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.promises import images as made

HANG_SECONDS = 5
_EXTREMES = [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


def _flip(content: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 2, 8, 32))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def _fill(content: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(content))
    content[at : at + rng.randrange(1, 64)] = rng.randbytes(rng.randrange(1, 64))


def _extreme(content: bytearray, rng: random.Random) -> None:
    """Write the numbers that overflow, mostly where headers are."""
    form = rng.choice((">H", "<H", ">I", "<I"))
    value = rng.choice(_EXTREMES) & (0xFFFF if form.endswith("H") else 0xFFFFFFFF)
    last = len(content) - 4
    struct.pack_into(form, content, rng.randrange(min(last, rng.choice((64, 1 << 20)))), value)


def _cut(content: bytearray, rng: random.Random) -> None:
    del content[rng.randrange(1, len(content)) :]


def _delete(content: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(content))
    del content[at : at + rng.randrange(1, 64)]


def _repeat(content: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(content))
    content[at:at] = bytes(content[at : at + rng.randrange(1, 256)]) * rng.choice((1, 2, 50))


def _splice(content: bytearray, rng: random.Random) -> None:
    other = rng.choice(made.seeds())
    content[rng.randrange(len(content)) :] = other[rng.randrange(len(other)) :]


KINDS: list[Callable[[bytearray, random.Random], None]] = [
    _flip, _flip, _fill, _extreme, _extreme, _cut, _delete, _repeat, _splice,
]  # fmt: skip


def _mend_png(content: bytearray) -> None:
    """Make the checksums right again, so that more than the checksum is tried."""
    at = 8
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        if at + 12 + length > len(content):
            return
        crc = zlib.crc32(content[at + 4 : at + 8 + length])
        struct.pack_into(">I", content, at + 8 + length, crc)
        at += 12 + length


def mutant(seeds: list[bytes], seed: int, number: int) -> bytes:
    """Return one mutated image; the same for the same numbers."""
    rng = random.Random(f"{seed}/{number}")
    content = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 2, 4))):
        if len(content) > 8:
            rng.choice(KINDS)(content, rng)
    if content[:4] == b"\x89PNG" and rng.random() < 0.7:
        _mend_png(content)
    return bytes(content)


def main(seed: int, count: int, progress: Path) -> None:
    from featx.errors import ImageError
    from featx.images import decoding

    warnings.simplefilter("ignore")
    seeds = made.seeds() + made.heic()
    outcomes: Counter[str] = Counter()
    strange: list[str] = []
    slowest = 0.0
    progress.write_bytes(bytes(8))
    with open(progress, "r+b") as file, mmap.mmap(file.fileno(), 8) as at:
        for number in range(count):
            content = mutant(seeds, seed, number)
            struct.pack_into("q", at, 0, number)
            # The default action, which also ends a loop in C: the parent sees where.
            signal.setitimer(signal.ITIMER_REAL, HANG_SECONDS)
            began = time.perf_counter()
            try:
                # By this name: what no magic tells is tried as a TGA file.
                pixels = decoding.at_side(content, 64, "x.tga")
                assert pixels.shape == (64, 64, 3)
                outcomes["handled"] += 1
            except ImageError as error:
                outcomes[type(error).__name__] += 1
            except BaseException as error:
                strange.append(f"{number}: {type(error).__name__}: {error}")
            slowest = max(slowest, time.perf_counter() - began)
    signal.setitimer(signal.ITIMER_REAL, 0)
    sys.stdout.write(
        json.dumps(
            {
                "outcomes": outcomes,
                "strange": strange,
                "slowest": round(slowest, 3),
                "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
