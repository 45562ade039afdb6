"""Shards that an attacker would write: each has a valid seal, and a name that fits its digests."""

from __future__ import annotations

import io
import json
import os
import pickle
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from featx.cache import shards
from featx.cache.shards import Block
from featx.storage.checksummed import seal

N, DIM = 4, 192
SHA256 = np.frombuffer(bytes(range(32)) * N, np.uint8).reshape(N, 32).copy()
SHA256[:, 0] = range(N)
ROWS = np.linspace(0, 1, N * DIM, dtype=np.float32).reshape(N, DIM)
STATUS = np.zeros(N, np.uint8)
BATCH = 4

Make = Callable[[str, Path], bytes]


def block(**changes: Any) -> Block:
    values = {
        "features": ROWS, "sha256": SHA256, "status": STATUS, "failures": [],
        "batch_size": BATCH, "environment": {"runtime": "thumbnail"},
    }  # fmt: skip
    return Block(**{**values, **changes})


def name_of(key: str) -> str:
    """Return the block id of every hostile shard: its digests are as they should be."""
    return shards.block_id(key, BATCH, SHA256)


def hdf5(key: str, fill: Callable[[h5py.File], None], without: tuple[str, ...] = ()) -> bytes:
    """Return a sealed shard with some datasets and attributes left out and others filled in."""
    image = io.BytesIO()
    values = {
        "features": ROWS,
        "sha256": SHA256,
        "status": STATUS,
        "failures": np.frombuffer(b"[]", np.uint8),
    }
    attributes: dict[str, Any] = {
        "format": shards.FORMAT,
        "key": np.bytes_(key),
        "batch_size": BATCH,
        "environment": np.bytes_(json.dumps({"runtime": "thumbnail"})),
    }
    with h5py.File(image, "w", libver=("v110", "v110")) as file:
        for name, value in attributes.items():
            if name not in without:
                file.attrs[name] = value
        for name, array in values.items():
            if name not in without:
                file.create_dataset(name, data=array, chunks=array.shape, fletcher32=True)
        fill(file)
    return seal(image.getvalue())


def external_link(key: str, secret: Path) -> bytes:
    def fill(file: h5py.File) -> None:
        file["features"] = h5py.ExternalLink(str(secret), "/features")

    return hdf5(key, fill, ("features",))


def soft_link(key: str, secret: Path) -> bytes:
    def fill(file: h5py.File) -> None:
        file["features"] = h5py.SoftLink("/sha256")

    return hdf5(key, fill, ("features",))


def soft_link_for_digests(key: str, secret: Path) -> bytes:
    def fill(file: h5py.File) -> None:
        file["sha256"] = h5py.SoftLink("/status")

    return hdf5(key, fill, ("sha256",))


def external_storage(key: str, secret: Path) -> bytes:
    def fill(file: h5py.File) -> None:
        file.create_dataset("features", (N, DIM), "<f4", external=[(str(secret), 0, ROWS.nbytes)])

    return hdf5(key, fill, ("features",))


def virtual_dataset(key: str, secret: Path) -> bytes:
    def fill(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((N, DIM), "<f4")
        layout[:] = h5py.VirtualSource(str(secret), "features", shape=(N, DIM))
        file.create_virtual_dataset("features", layout)

    return hdf5(key, fill, ("features",))


def shape_bomb(key: str, secret: Path) -> bytes:
    """Declare 4 TB of rows that are nowhere."""

    def fill(file: h5py.File) -> None:
        file.create_dataset(
            "features", (1 << 20, 1 << 20), "<f4", chunks=(1 << 10, 1 << 10), fletcher32=True
        )

    return hdf5(key, fill, ("features",))


def consistent_bomb(key: str, secret: Path) -> bytes:
    """Declare 1 GB in each dataset, all of one length, in one chunk that was never written."""

    def fill(file: h5py.File) -> None:
        n = 1 << 20
        for name, shape, dtype in (
            ("features", (n, 256), "<f4"), ("sha256", (n, 32), "u1"), ("status", (n,), "u1"),
        ):  # fmt: skip
            file.create_dataset(name, shape, dtype, chunks=shape, fletcher32=True)

    return hdf5(key, fill, ("features", "sha256", "status"))


def packed_bomb(key: str, secret: Path) -> bytes:
    """Hold 256 MB of zeros in some kB, by compression."""

    def fill(file: h5py.File) -> None:
        file.create_dataset(
            "features", data=np.zeros((N, 1 << 24), np.float32), chunks=(N, 1 << 24),
            compression="gzip", fletcher32=True,
        )  # fmt: skip

    return hdf5(key, fill, ("features",))


def _typed(dtype: Any, data: Any = None) -> Make:
    def make(key: str, secret: Path) -> bytes:
        def fill(file: h5py.File) -> None:
            file.create_dataset("features", (N, DIM), dtype, data=data, chunks=(N, DIM))

        return hdf5(key, fill, ("features",))

    return make


def unknown_filter(key: str, secret: Path) -> bytes:
    """Ask for a filter plugin that HDF5 would search for and load."""

    def fill(file: h5py.File) -> None:
        space = h5py.h5s.create_simple((N, DIM))
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((N, DIM))
        plist.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))
        h5py.h5d.create(file.id, b"features", h5py.h5t.IEEE_F32LE, space, plist)

    return hdf5(key, fill, ("features",))


def group(key: str, secret: Path) -> bytes:
    return hdf5(key, lambda file: file.create_group("features"), ("features",))


def named_type(key: str, secret: Path) -> bytes:
    def fill(file: h5py.File) -> None:
        file["features"] = np.dtype("<f4")

    return hdf5(key, fill, ("features",))


def one_more_dataset(key: str, secret: Path) -> bytes:
    return hdf5(key, lambda file: file.create_dataset("more", data=[1]))


def one_dataset_less(key: str, secret: Path) -> bytes:
    return hdf5(key, lambda file: None, ("failures",))


def one_more_attribute(key: str, secret: Path) -> bytes:
    return hdf5(key, lambda file: file.attrs.__setitem__("more", 1))


def _attribute(name: str, value: Any, dtype: Any = None) -> Make:
    def make(key: str, secret: Path) -> bytes:
        def fill(file: h5py.File) -> None:
            if callable(value):
                file.attrs.create(name, value(file), dtype=dtype)
            else:
                file.attrs.create(name, value, dtype=dtype)

        return hdf5(key, fill, (name,))

    return make


def _changed(**changes: np.ndarray) -> Make:
    """Replace datasets by others of another length or content."""

    def make(key: str, secret: Path) -> bytes:
        def fill(file: h5py.File) -> None:
            for name, array in changes.items():
                file.create_dataset(name, data=array, chunks=array.shape, fletcher32=True)

        return hdf5(key, fill, tuple(changes))

    return make


def text_bytes(content: bytes) -> np.ndarray:
    return np.frombuffer(content, np.uint8)


def zipped(key: str, secret: Path) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../../escaped", b"x")
    return seal(file.getvalue())


class _Bomb:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(self.path),)


def pickled(key: str, secret: Path) -> bytes:
    return seal(pickle.dumps(_Bomb(f"{secret}.executed")))


def of_another_key(key: str, secret: Path) -> bytes:
    return shards.encode(block(), "0" * 64)[0]


def under_another_name(key: str, secret: Path) -> bytes:
    other = SHA256.copy()
    other[0] ^= 255
    return shards.encode(block(sha256=other), key)[0]


SECURITY, CORRUPT, MISMATCH = "CacheSecurityError", "CacheCorruptError", "CacheKeyMismatchError"
DEEP = b"[" * 100_000 + b"]" * 100_000
NAN = np.where(np.arange(N)[:, None] == 1, np.float32(np.nan), ROWS)

# What it is, how it is made, and the error that must come of it.
SHARDS: dict[str, tuple[Make, str]] = {
    "external link": (external_link, SECURITY),
    "soft link": (soft_link, SECURITY),
    "soft link for the digests": (soft_link_for_digests, SECURITY),
    "external storage": (external_storage, SECURITY),
    "virtual dataset": (virtual_dataset, SECURITY),
    "4 TB declared": (shape_bomb, SECURITY),
    "1 GB declared, all lengths equal": (consistent_bomb, SECURITY),
    "256 MB in a few kB": (packed_bomb, SECURITY),
    "numbers of variable length": (_typed(h5py.vlen_dtype(np.float32)), SECURITY),
    "text": (_typed(h5py.string_dtype()), SECURITY),
    "object references": (_typed(h5py.ref_dtype), SECURITY),
    "region references": (_typed(h5py.regionref_dtype), SECURITY),
    "compound type": (_typed(np.dtype([("a", "<f4"), ("b", "<i8")])), SECURITY),
    "big-endian numbers": (_typed(">f4", ROWS), SECURITY),
    "unknown filter": (unknown_filter, SECURITY),
    "group for a dataset": (group, SECURITY),
    "type for a dataset": (named_type, SECURITY),
    "one dataset more": (one_more_dataset, SECURITY),
    "one dataset less": (one_dataset_less, SECURITY),
    "one attribute more": (one_more_attribute, SECURITY),
    "attribute of 1 MB of text": (_attribute("environment", np.bytes_("x" * (1 << 20))), SECURITY),
    "attribute of variable length": (_attribute("environment", "{}"), SECURITY),
    "attribute that is an array": (_attribute("batch_size", np.arange(9)), SECURITY),
    "attribute that is a list of texts": (_attribute("key", np.array([b"a", b"b"])), SECURITY),
    "attribute that is a reference": (
        _attribute("key", lambda file: file["status"].ref, h5py.ref_dtype), SECURITY),
    "attribute of the wrong kind": (_attribute("batch_size", np.bytes_("four")), SECURITY),
    "attribute with numbers for text": (_attribute("environment", 7), SECURITY),
    "batch size that is no number": (_attribute("batch_size", float("nan")), SECURITY),
    "format 0": (_attribute("format", 0), SECURITY),
    "deeply nested environment": (_attribute("environment", np.bytes_(DEEP[:30_000])), CORRUPT),
    "environment that is a list": (_attribute("environment", np.bytes_("[]")), CORRUPT),
    "deeply nested failures": (_changed(failures=text_bytes(DEEP)), CORRUPT),
    "failures that are no list": (_changed(failures=text_bytes(b"{}1")), CORRUPT),
    "failure of a slot that is not there": (_changed(failures=text_bytes(b'[[9,2,"x"]]')), CORRUPT),
    "failure of slot -1": (_changed(failures=text_bytes(b'[[-1,2,"x"]]')), CORRUPT),
    "more digests than rows": (_changed(sha256=np.vstack([SHA256, SHA256])), SECURITY),
    "a status that is not there": (_changed(status=np.full(N, 7, np.uint8)), CORRUPT),
    "a row that is not finite": (_changed(features=NAN), CORRUPT),
    "rows of three dimensions": (_changed(features=ROWS.reshape(N, 2, -1)), SECURITY),
    "no rows": (_changed(features=np.float32(1).reshape(1, 1)), SECURITY),
    "another key": (of_another_key, MISMATCH),
    "another name": (under_another_name, MISMATCH),
    "sealed text": (lambda key, secret: seal(b"hello " * 99), CORRUPT),
    "sealed zip": (zipped, CORRUPT),
    "sealed pickle": (pickled, CORRUPT),
    "sealed nothing": (lambda key, secret: seal(b""), CORRUPT),
    "a seal alone behind the signature": (lambda key, secret: seal(shards.HDF5_MAGIC), CORRUPT),
    "nothing": (lambda key, secret: b"", CORRUPT),
    "text without a seal": (lambda key, secret: b"hello " * 99, CORRUPT),
    "a shard without its seal": (lambda key, secret: shards.encode(block(), key)[0][:-40], CORRUPT),
    "a shard cut in half": (lambda key, secret: shards.encode(block(), key)[0][:1000], CORRUPT),
}  # fmt: skip


def header(about: Any = None, **arrays: Any) -> bytes:
    """Return a sealed piece whose header says this, with 1 kB behind it."""
    line = json.dumps({"about": about, "arrays": arrays}).encode()
    return seal(line + b"\n" + bytes(1024))


# Accelerator files (the index of a key, the known files of a data set): what an attacker puts.
PIECES: dict[str, bytes] = {
    "nothing": b"",
    "text": b"hello " * 99,
    "sealed nothing": seal(b""),
    "sealed text": seal(b"hello\n" * 99),
    "sealed pickle": seal(pickle.dumps(_Bomb("/nonexistent/executed")) + b"\n"),
    "no arrays": header(),
    "a header that is a list": seal(b"[]\n"),
    "a header that is a number": seal(b"7\n"),
    "arrays that are a list": seal(b'{"about": null, "arrays": []}\n'),
    "a hundred thousand brackets": seal(DEEP + b"\n"),
    "4 TB": header([], sha256=["|u1", [1 << 37, 32]]),
    "more than 64 bits": header([], sha256=["|u1", [1 << 62, 1 << 62]]),
    "a product that wraps to nothing": header([], sha256=["|u1", [1 << 32, 1 << 32]]),
    "a number of a thousand digits": seal(
        b'{"about": [], "arrays": {"sha256": ["|u1", [' + b"9" * 1000 + b"]]}}\n"
    ),
    "less than nothing": header([], sha256=["|u1", [-1, 32]]),
    "a shape that is text": header([], sha256=["|u1", "32"]),
    "a shape of fractions": header([], sha256=["|u1", [1.5, 32]]),
    "objects": header([], sha256=["|O", [4]]),
    "a type of objects inside": header([], sha256=["O,i4", [4]]),
    "a type that is none": header([], sha256=["import os", [4]]),
    "a type of 4 GB": header([], sha256=["(65536,65536)u1", [1]]),
    "a type of no width": header([], sha256=["|V0", [1 << 40]]),
}


def packed(name: str, arrays: dict[str, Any], about: Any) -> bytes:
    from featx.storage.checksummed import pack

    return pack({key: np.asarray(value) for key, value in arrays.items()}, about)


def indexes() -> dict[str, bytes]:
    """Return indexes that are well packed and lie."""
    good = {
        "about": np.array([[5000, 1, 1, 1]], np.int64),
        "layout": np.array([[N, DIM, 600, 4000]], np.int64),
        "sha256": SHA256,
        "status": STATUS,
    }
    entries = [["a" * 32 + ".h5", [], {}]]

    def lie(about: Any = entries, **changes: Any) -> bytes:
        return packed("index", {**good, **changes}, about)

    def layout(*numbers: int) -> bytes:
        return lie(layout=np.array([numbers], np.int64))

    return {
        "rows of 2^40 numbers": layout(N, 1 << 40, 600, 4000),
        "2^40 rows": layout(1 << 40, DIM, 600, 4000),
        "-4 rows": layout(-4, DIM, 600, 4000),
        "rows before the file": layout(N, DIM, -600, 4000),
        "rows behind the file": layout(N, DIM, 1 << 50, 4000),
        "digests behind the file": layout(N, DIM, 600, 4999),
        "a layout of fractions": lie(layout=np.array([[N, DIM, 600, 4000]], float)),
        "more shards than names": lie(about=[]),
        "more names than shards": lie(about=entries * 2),
        "a name that is a number": lie(about=[[7, [], {}]]),
        "an environment that is text": lie(about=[["a", [], "x"]]),
        "failures that are a number": lie(about=[["a", 7, {}]]),
        "entries that are a number": lie(about=7),
        "digests of 31 bytes": lie(sha256=SHA256[:, :31]),
        "digests of numbers": lie(sha256=SHA256.astype(float)),
        "a state that is not there": lie(status=np.full(N, 9, np.uint8)),
        "states of two dimensions": lie(status=STATUS[None]),
        "without digests": packed("index", {k: good[k] for k in ("about", "layout")}, entries),
    }


def known_files() -> dict[str, bytes]:
    """Return tables of known files that are well packed and lie about their lengths."""
    good: dict[str, Any] = {
        "lengths": np.array([3], np.int64),
        "names": np.frombuffer(b"a/b", np.uint8),
        "about": np.zeros((1, 4), np.int64),
        "read_at": np.zeros(1, np.int64),
        "sha256": SHA256[:1],
    }

    def lie(**changes: Any) -> bytes:
        return packed("known", {**good, **changes}, None)

    return {
        "one digest too few": lie(sha256=SHA256[:0]),
        "digests of 31 bytes": lie(sha256=SHA256[:1, :31]),
        "lengths beyond the names": lie(lengths=np.array([1 << 62], np.int64)),
        "lengths below nothing": lie(lengths=np.array([-9], np.int64)),
        "lengths of fractions": lie(lengths=np.array([0.5])),
        "facts of fractions": lie(about=np.full((1, 4), np.nan)),
        "facts of three numbers": lie(about=np.zeros((1, 3), np.int64)),
        "two times for one file": lie(read_at=np.zeros(2, np.int64)),
        "names of numbers": lie(names=np.zeros(3)),
    }


# Folders of a cache in whose place a link may stand that leads to a stranger's folder.
LINKED_FOLDERS = ("k-*", "k-*/shards", "k-*/quarantine", "k-*/claims", "statindex")


def _fifo(path: Path, secret: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path, secret: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        # The path of a socket is at most 108 bytes long.
        here = os.getcwd()
        os.chdir(path.parent)
        server.bind(path.name)
        os.chdir(here)


def _huge(path: Path, secret: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(1 << 42)


# What may lie where featx has a file, and is none.
ODD_FILES: dict[str, Callable[[Path, Path], None]] = {
    "link": lambda path, secret: path.symlink_to(secret),
    "link to nothing": lambda path, secret: path.symlink_to(secret.with_name("nothing")),
    "link to itself": lambda path, secret: path.symlink_to(path),
    "fifo": _fifo,
    "socket": _socket,
    "folder": lambda path, secret: path.mkdir(),
    "sparse file of 4 TB": _huge,
}
