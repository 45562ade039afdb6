"""Mutated images, read one after the other in a process of its own, each with its time and memory.

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
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from featx.errors import ImageError, ImageLimitError
from featx.images import decoding, formats, worker
from tests.promises import images as made

# Of the processor in this process, and by the clock with those that decode for it.
HANG_SECONDS, CLOCK_SECONDS = 5, 300
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


class Meter:
    """What one image took: seconds of a processor, and the memory it added, in MB.

    Both are of this process and of those that decode for it, memory at the peak of each; 0 where
    the system does not tell. Of a process that was stopped nothing is known but its limits.
    """

    def __enter__(self) -> Meter:
        self._before = {pid: self._reset(pid) for pid in self._processes()}
        self._seconds = self._used()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = self._used() - self._seconds
        added = [self._status(p, "VmHWM") - self._before.get(p, 0) for p in self._processes()]
        self.megabytes = sum(max(0, one) for one in added) / 1024

    def _processes(self) -> list[str]:
        return ["self", *(str(one.process.pid) for one in worker._workers)]

    def _used(self) -> float:
        others = 0
        for process in self._processes()[1:]:
            with suppress(OSError):
                others += int(Path(f"/proc/{process}/schedstat").read_text().split()[0])
        return time.process_time() + others / 1e9

    def _reset(self, process: str) -> int:
        """Let the peak be what is used now, which is returned, in KiB; see proc(5)."""
        try:
            Path(f"/proc/{process}/clear_refs").write_text("5")
        except OSError:
            return 0
        return self._status(process, "VmRSS")

    def _status(self, process: str, name: str) -> int:
        try:
            lines = Path(f"/proc/{process}/status").read_text().splitlines()
        except OSError:
            return 0
        return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)


def main(seed: int, count: int, progress: Path) -> None:
    warnings.simplefilter("ignore")
    seeds = made.seeds() + made.heic()
    outcomes: Counter[str] = Counter()
    strange: list[str] = []
    slowest, largest = (0.0, ""), (0.0, "")
    worker.ask(asdict(decoding.Wanted()), b"")  # starting a process is no image's time
    progress.write_bytes(bytes(8))
    with open(progress, "r+b") as file, mmap.mmap(file.fileno(), 8) as at:
        for number in range(count):
            content = mutant(seeds, seed, number)
            struct.pack_into("q", at, 0, number)
            # The default actions, which also end a loop in C: the parent sees where.
            signal.setitimer(signal.ITIMER_PROF, HANG_SECONDS)
            signal.setitimer(signal.ITIMER_REAL, CLOCK_SECONDS)
            with Meter() as meter:
                try:
                    # By this name: what no magic tells is tried as a TGA file.
                    pixels = decoding.at_side(content, 64, "x.tga")
                    assert pixels.shape == (64, 64, 3)
                    outcome = "handled"
                except ImageLimitError as error:
                    outcome = "ImageLimitError"
                    if "signal" in str(error):
                        strange.append(f"{number}: {error}")
                except ImageError as error:
                    outcome = type(error).__name__
                except BaseException as error:
                    outcome = "strange"
                    strange.append(f"{number}: {type(error).__name__}: {error}")
            outcomes[outcome] += 1
            what = f"mutant {number} ({kind_of(content)}, {outcome})"
            slowest = max(slowest, (round(meter.seconds, 3), what))
            largest = max(largest, (round(meter.megabytes), what))
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    sys.stdout.write(
        json.dumps(
            {
                "outcomes": outcomes,
                "strange": strange,
                "slowest": "{} s of a processor: {}".format(*slowest),
                "largest": "+{} MB: {}".format(*largest),
                "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            }
        )
    )


def kind_of(content: bytes) -> str:
    """Return what a mutant begins like."""
    return formats.media_format(content[:256]) or content[:4].decode("ascii", "backslashreplace")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
