"""One shard: the embeddings of one block of images as the bytes of an HDF5 file, sealed."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xxhash
from PIL import __version__ as PILLOW  # noqa: N812

from featx.errors import (
    CacheCorruptError,
    CacheKeyMismatchError,
    CacheSecurityError,
    CacheVersionError,
)
from featx.storage import strict_json
from featx.storage.checksummed import seal, unseal
from featx.storage.interface import Stat

DIGEST_BYTES = 16


FORMAT = 1
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"

EMBEDDING, BAD, MISSING = 0, 1, 2
MAX_MESSAGE = 500
MAX_FAILURES = 1 << 24
MAX_DIM = 1 << 24
MAX_ENTRIES = 1 << 20

_DATASETS = {
    "features": "<f4",
    "sha256": "|u1",
    "status": "|u1",
    "failures": "|u1",
}
# Text as fixed-length ASCII: its length is known, and bounded, before it is read.
_ATTRIBUTES = {"format": "iu", "key": "S", "batch_size": "iu", "environment": "S"}
_MAX_ATTRIBUTE = 1 << 15


@dataclass
class Block:
    """The embeddings of some images, in the order in which the network computed them.

    Attributes
    ----------
    features : numpy.ndarray of shape (n, dim) and dtype float32
        NaN where `status` is not ``EMBEDDING``.
    sha256 : numpy.ndarray of shape (n, 32) and dtype uint8
        The digest of each image's content; zeros for a missing one.
    status : numpy.ndarray of shape (n,) and dtype uint8
        ``EMBEDDING``, ``BAD`` (an image that never gives one) or ``MISSING`` (not read this time).
    failures : list of (entry, code, message)
        The position, error code and reason of each image without an embedding.
    batch_size : int
        Images that the network computed together.
    environment : dict
        Versions, runtime and device that computed the embeddings; strict JSON.
    """

    features: np.ndarray
    sha256: np.ndarray
    status: np.ndarray
    failures: list[tuple[int, int, str]]
    batch_size: int
    environment: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class Layout:
    """Where the embeddings are in a shard's verified bytes, so that they are read without HDF5."""

    n: int
    dim: int
    features: int
    sha256: int

    def embeddings(self, content: bytes | memoryview) -> np.ndarray:
        """Return the (n, dim) float32 embeddings, without a copy."""
        size = self.n * self.dim
        return np.frombuffer(content, "<f4", size, self.features).reshape(self.n, self.dim)

    def digests(self, content: bytes | memoryview) -> np.ndarray:
        """Return the (n, 32) uint8 content digests, without a copy."""
        return np.frombuffer(content, "|u1", self.n * 32, self.sha256).reshape(self.n, 32)


def block_id(key: str, batch_size: int, sha256: np.ndarray) -> str:
    """Return the 32 hexadecimal digits that name a block: its key, batch size and contents."""
    digest = hashlib.sha256(f"{key}\n{batch_size}\n".encode())
    digest.update(np.ascontiguousarray(sha256, dtype=np.uint8).tobytes())
    return digest.hexdigest()[:32]


def encode(block: Block, key: str) -> tuple[bytes, tuple[Block, Layout]]:
    """Return the block as a sealed HDF5 file, and what ``decode`` reads from that.

    The same block gives the same bytes. They are compared with the block as they are read again,
    so that what is published was read once already.
    """
    failures = [(entry, code, text[:MAX_MESSAGE]) for entry, code, text in block.failures]
    values = {
        "features": np.ascontiguousarray(block.features, dtype="<f4"),
        "sha256": block.sha256,
        "status": block.status,
        "failures": np.frombuffer(json.dumps(failures).encode("ascii"), "|u1"),
    }
    try:
        image = _image(block, key, values)
    except (OSError, RuntimeError) as error:
        # A file in memory: nothing else can fail.
        raise MemoryError(f"no memory to lay out a block: {error}") from error
    sealed = seal(image)
    again, layout = decode(sealed, key, block_id(key, block.batch_size, block.sha256))
    if not np.array_equal(again.features, values["features"], equal_nan=True):
        raise CacheCorruptError("a shard built in memory did not read back as it was written")
    return sealed, (again, layout)


def _image(block: Block, key: str, values: dict[str, np.ndarray]) -> bytes:
    """Return the HDF5 file of a block."""
    image = io.BytesIO()
    with _new_file(image) as file:
        file.attrs["format"] = FORMAT
        file.attrs["key"] = np.bytes_(key)
        file.attrs["batch_size"] = block.batch_size
        environment = json.dumps(block.environment, sort_keys=True, allow_nan=False)
        file.attrs["environment"] = np.bytes_(environment)
        for name, value in values.items():
            # One chunk per dataset: a shard is always read whole, and one chunk is one stretch of
            # bytes. NaN for what was never written.
            fill = np.nan if name == "features" else None
            file.create_dataset(
                name, data=value, chunks=value.shape, fletcher32=True, fillvalue=fill
            )
    return image.getvalue()


def _new_file(image: io.BytesIO) -> Any:
    """Return a new HDF5 file in memory that does not record when it was made, as h5py.File does."""
    import h5py

    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    # Both v110: HDF5 checksums its own metadata then. Of 800 flipped bits none was read
    # silently, where the default format let 4 of 150 pass.
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, image)
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_obj_track_times(False)
    return h5py.File(h5py.h5f.create(b"shard", fapl=access, fcpl=creation))


def decode(
    content: bytes | bytearray, key: str, name: str, *, with_features: bool = True
) -> tuple[Block, Layout]:
    """Return the block in a shard's bytes and its layout, after every check.

    Parameters
    ----------
    content : bytes
        The whole file.
    key : str
        The feature key that the shard must belong to.
    name : str
        The block id that the shard must have.
    with_features : bool, default=True
        Whether `features` is filled; an empty array otherwise.

    Raises
    ------
    CacheCorruptError
        The seal or a checksum is wrong, or an embedding is not finite.
    CacheSecurityError
        The file holds what featx never writes; nothing it points to was opened.
    CacheVersionError
        The shard has a later format; that is not damage, and the file must be left alone.
    CacheKeyMismatchError
        The shard belongs to another key, or has another block's name.
    """
    import h5py

    body = unseal(content, name)
    if body[: len(HDF5_MAGIC)] != HDF5_MAGIC:
        raise CacheCorruptError(f"{name} is not an HDF5 file")
    try:
        with h5py.File.in_memory(body.tobytes()) as file:
            layout = _check(file, len(body), name)
            batch_size = int(file.attrs["batch_size"])
            environment = _object(file.attrs["environment"])
            stored_key = file.attrs["key"].decode("ascii")
            failures = _failures(file["failures"][:].tobytes(), layout.n)
            status = file["status"][:]
            features = file["features"][:]
    except (CacheCorruptError, CacheVersionError):
        raise
    except Exception as error:  # the HDF5 library reports damage as OSError, KeyError, RuntimeError
        raise CacheCorruptError(f"{name} cannot be read: {error}") from error
    sha256 = layout.digests(body).copy()
    if stored_key != key or block_id(key, batch_size, sha256) != name:
        raise CacheKeyMismatchError(f"{name} belongs to another key or has another block's name")
    if status.max() > MISSING:
        raise CacheCorruptError(f"{name} has an entry that is neither embedding, bad nor missing")
    if not np.isfinite(features[status == EMBEDDING]).all():
        raise CacheCorruptError(f"{name} has an embedding that is not finite")
    if not np.array_equal(layout.embeddings(body), features, equal_nan=True):
        raise CacheCorruptError(f"{name} has its embeddings at another offset than HDF5 says")
    if not with_features:
        features = np.empty((0, layout.dim), np.float32)
    return Block(features, sha256, status, failures, batch_size, environment), layout


def _check(file: Any, size: int, name: str) -> Layout:
    """Refuse every object that featx does not write, before any data is read."""
    import h5py

    _check_attributes(file, ["format"], name)
    format = int(file.attrs["format"])
    if format > FORMAT:
        raise CacheVersionError(
            f"{name} has format {format}; this featx knows format {FORMAT}. It was left untouched: "
            "use the version of featx that made it, or another cache folder."
        )
    if sorted(file.keys()) != sorted(_DATASETS) or sorted(file.attrs.keys()) != sorted(_ATTRIBUTES):
        raise CacheSecurityError(f"{name} contains objects that a shard does not have")
    _check_attributes(file, _ATTRIBUTES, name)
    if format != FORMAT:
        raise CacheSecurityError(f"{name} has format {format}, expected {FORMAT}")
    for dataset in _DATASETS:
        if not isinstance(file.get(dataset, getlink=True), h5py.HardLink):
            raise CacheSecurityError(f"{name}: {dataset!r} is a link")
        if not isinstance(file[dataset], h5py.Dataset):
            raise CacheSecurityError(f"{name}: {dataset!r} is not a dataset")
    shape = file["features"].shape
    if len(shape) != 2 or not (0 < shape[0] <= MAX_ENTRIES and 0 < shape[1] <= MAX_DIM):
        raise CacheSecurityError(f"{name}: 'features' has shape {shape}")
    n, dim = shape
    offsets = {}
    for dataset, dtype in _DATASETS.items():
        expected = {"features": (n, dim), "sha256": (n, 32), "status": (n,)}.get(dataset)
        offsets[dataset] = _offset(file[dataset], np.dtype(dtype), expected, size, name)
    return Layout(n, dim, offsets["features"], offsets["sha256"])


def _check_attributes(file: Any, names: Iterable[str], name: str) -> None:
    """Refuse an attribute that is not a single number or short text, before it is read."""
    for attribute in names:
        found = file.attrs.get_id(attribute)
        if (
            found.shape != ()
            or found.dtype.kind not in _ATTRIBUTES[attribute]
            or found.get_storage_size() > _MAX_ATTRIBUTE
        ):
            raise CacheSecurityError(f"{name}: attribute {attribute!r} is not what a shard has")


def _offset(
    dataset: Any, dtype: np.dtype[Any], shape: tuple[int, ...] | None, size: int, name: str
) -> int:
    """Return where the single chunk of a plain dataset begins."""
    import h5py

    what = f"{name}: {dataset.name!r}"
    if dataset.is_virtual or dataset.external:
        raise CacheSecurityError(f"{what} stores its data outside the file")
    if shape is None:  # the failures: bytes of JSON, as many as there are
        shape = dataset.shape
        if len(shape) != 1 or not 0 < shape[0] <= MAX_FAILURES:
            raise CacheSecurityError(f"{what} has shape {shape}")
    if dataset.shape != shape or dataset.dtype != dtype or dataset.chunks != shape:
        raise CacheSecurityError(f"{what} has another shape, type or chunking than a shard's")
    filters = dataset.id.get_create_plist()
    if filters.get_nfilters() != 1 or filters.get_filter(0)[0] != h5py.h5z.FILTER_FLETCHER32:
        raise CacheSecurityError(f"{what} uses another filter than fletcher32")
    count = int(np.prod(shape)) * dtype.itemsize
    if dataset.id.get_num_chunks() != 1 or dataset.id.get_storage_size() != count + 4:
        raise CacheSecurityError(
            f"{what} declares {count:,} bytes and stores another number of them"
        )
    offset = dataset.id.get_chunk_info(0).byte_offset
    if offset is None or not 0 < offset <= size - count:
        raise CacheSecurityError(f"{what} is outside the file")
    return int(offset)


def _object(content: bytes) -> dict[str, Any]:
    value = strict_json.loads(content)
    if not isinstance(value, dict):
        raise ValueError("the environment is not a JSON object")
    return value


def _failures(content: bytes, n: int) -> list[tuple[int, int, str]]:
    failures = [(int(i), int(code), str(text)) for i, code, text in strict_json.loads(content)]
    if any(not (0 <= i < n and 0 <= code < 256) for i, code, _ in failures):
        raise ValueError("a failure names an entry or a code that does not exist")
    return failures


@dataclass(frozen=True)
class ShardMetadata:
    """What is known of one shard that was verified, without its embeddings.

    Attributes
    ----------
    name : str
        Its file name.
    stat : Stat
        Its state when it was verified.
    layout : Layout
        Where its embeddings are.
    sha256 : numpy.ndarray of shape (n, 32) and dtype uint8
    status : numpy.ndarray of shape (n,) and dtype uint8
    failures : list of (entry, code, reason)
    environment : dict
        What computed it.
    digest : bytes
        The XXH3-128 of the whole file, taken when its sha256 was right: as sure against damage,
        and read 14 times as fast (24 against 1.8 GB/s of one core).
    """

    name: str
    stat: Stat
    layout: Layout
    sha256: np.ndarray
    status: np.ndarray
    failures: list[tuple[int, int, str]]
    environment: dict[str, Any]
    digest: bytes

    @classmethod
    def read(cls, name: str, stat: Stat, content: bytes | bytearray, key: str) -> ShardMetadata:
        """Return the metadata in a shard's bytes, after every check of ``shards.decode``."""
        block, layout = decode(content, key, name[:-3], with_features=False)
        return cls.of(name, stat, content, block, layout)

    @classmethod
    def of(
        cls, name: str, stat: Stat, content: bytes | bytearray, block: Block, layout: Layout
    ) -> ShardMetadata:
        """Return the metadata of what ``shards.decode`` found in a shard's bytes."""
        return cls(
            name, stat, layout, block.sha256, block.status, block.failures, block.environment,
            xxhash.xxh3_128_digest(content),
        )  # fmt: skip

    def is_own(self) -> bool:
        """Return whether this Pillow made it: another one may read what that one refused."""
        return self.environment.get("pillow", PILLOW) == PILLOW

    def unserved(self) -> np.ndarray:
        """Return the entries that serve nobody here: missing, or refused by another Pillow."""
        return np.flatnonzero(self.status == MISSING if self.is_own() else self.status != EMBEDDING)

    def verify(
        self, parts: Sequence[memoryview], content: memoryview, entries: np.ndarray,
        sha256: np.ndarray,
    ) -> None:  # fmt: skip
        """Raise CacheCorruptError if this shard's file is not what it was when it was verified.

        Parameters
        ----------
        parts : sequence of memoryview
            The whole file, in pieces.
        content : memoryview
            As long as the file; at least its digests are filled.
        entries : numpy.ndarray of shape (k,) and dtype int64
        sha256 : numpy.ndarray of shape (k, 32) and dtype uint8
            The images whose embeddings are wanted from these entries.
        """
        digest = xxhash.xxh3_128()
        for part in parts:
            digest.update(part)
        if digest.digest() != self.digest:
            raise CacheCorruptError(f"{self.name} does not have the content that was verified")
        if not np.array_equal(self.layout.digests(content)[entries], sha256):
            raise CacheCorruptError(f"{self.name} holds other images than its index says")


def of_odd_width(shards: Collection[ShardMetadata], dim: int | None) -> list[ShardMetadata]:
    """Return the shards whose embeddings are not `dim` wide, or not as wide as most are."""
    widths: Counter[int] = Counter()
    for shard in shards:
        widths[shard.layout.dim] += shard.layout.n
    if widths and dim is None:
        ((dim, _),) = widths.most_common(1)
    return [shard for shard in shards if shard.layout.dim != dim]
