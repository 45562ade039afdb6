"""What a cache must hold, judged from outside the store."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from featx.images.content_hash import of_content


def shards(cache: Path) -> dict[str, bytes]:
    """Return the bytes of every published shard."""
    return {path.name: path.read_bytes() for path in sorted(cache.glob("k-*/shards/*.h5"))}


def leftovers(cache: Path) -> list[str]:
    """Return the temporary files that lie about."""
    return [path.name for path in cache.rglob(".tmp-*")]


def is_whole(content: bytes) -> bool:
    """Say whether a shard carries the seal and the digest of all its bytes."""
    return (
        content[-40:-32] == b"FEATXEND" and hashlib.sha256(content[:-40]).digest() == content[-32:]
    )


def kept(content: bytes) -> Iterator[tuple[bytes, np.ndarray]]:
    """Yield the digest and the row of each good image in a shard, read by h5py alone."""
    with h5py.File(io.BytesIO(content[:-40]), "r") as file:
        for digest, row, status in zip(
            file["sha256"][:], file["features"][:], file["status"][:], strict=True
        ):
            if status == 0:
                yield digest.tobytes(), row


def judge(content: dict[str, bytes], truth: dict[bytes, np.ndarray]) -> list[str]:
    """Return what is wrong with some shards: a file that is not whole, a row that is not true.

    Parameters
    ----------
    truth : dict
        The row of each content digest; digests it does not know are not judged.
    """
    wrong = [f"{name} is not whole" for name, bytes_ in content.items() if not is_whole(bytes_)]
    for name, bytes_ in content.items():
        if is_whole(bytes_):
            wrong += [
                f"{name} has a wrong row"
                for digest, row in kept(bytes_)
                if digest in truth and not np.array_equal(truth[digest], row)
            ]
    return wrong


def truth_of_files(folder: Path, rows: np.ndarray) -> dict[bytes, np.ndarray]:
    """Return the row of each file's content, the files in sorted order."""
    files = sorted(path for path in folder.rglob("*.bmp"))
    return {
        hashlib.sha256(path.read_bytes()).digest(): row
        for path, row in zip(files, rows, strict=True)
    }


def truth_of_pixels(drawn: np.ndarray, rows: np.ndarray) -> dict[bytes, np.ndarray]:
    """Return the row of each image that was given as pixels."""
    return {of_content(image): row for image, row in zip(drawn, rows, strict=True)}
