"""Features: embeddings, labels, ids and failures in one place, and their single-file form."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featx.errors import (
    DatasetError,
    Failure,
    ModelFileError,
    ModelVersionError,
    OptionError,
)
from featx.labels import class_order
from featx.storage import atomic, strict_json
from featx.storage.output import check_target

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 3
"""Version 1, of featx 0.1, had the spec under another name and no sha256; version 2 had attributes
that were texts of any length."""

_MARK = "featx features"

_NAMES = ("features", "ids", "labels", "classes", "failures")


@dataclass(frozen=True)
class ExtractionReport:
    """What one call of ``extract`` did.

    Attributes
    ----------
    images : int
        Images in the dataset, bad ones included.
    computed, cached : int
        Distinct images that went through the network now, and that were cached before.
    seconds : float
        Wall time of the whole call.
    compute_seconds : float
        Wall time spent reading, decoding and computing new images; 0 when there were none.
    runtime : str or None
        What computed; None where nothing had to be computed.
    cache : str
        The cache folder.
    gather_seconds : float
        Wall time of reading and verifying the cached embeddings.
    start_seconds : float
        Those of `compute_seconds` in which the network started.
    """

    images: int
    computed: int
    cached: int
    seconds: float
    compute_seconds: float
    runtime: str | None
    cache: str
    gather_seconds: float = 0.0
    start_seconds: float = 0.0

    @property
    def images_per_second(self) -> float | None:
        """Images per second computed once the network had started; None where none was."""
        seconds = self.compute_seconds - self.start_seconds
        return self.computed / seconds if self.computed and seconds > 0 else None


@dataclass(eq=False)
class Features:
    """The embeddings of a dataset, aligned with its labels and ids.

    Attributes
    ----------
    X : numpy.ndarray of shape (n, dim) and dtype float32
        One embedding per image. Of ``extract(gather=False)`` it is not an array: embeddings are
        read from the cache when they are asked for, as in ``X[:100]``.
    y : numpy.ndarray of shape (n,), or None
        Class names (dtype object), or numbers or booleans that were given as labels; None without
        labels.
    ids : list of str
        Relative paths or positions, in the dataset's order.
    classes : list
        The distinct labels in the order of ``featx.labels.class_order``.
    failures : list of Failure
        The images that have no embedding.
    spec : dict
        All that decides the embeddings: backbone, weights digest, layer, pooling, side, precision;
        besides, under "runtimes", what computed those of this key, and under "decode" how large
        JPEGs were decoded, which is a part of their addresses and not of the key.
    notes : tuple of str
        What was noticed while the dataset was listed and its new images were read.
    report : ExtractionReport or None
        What the extraction did; None for loaded features.
    digests : numpy.ndarray of shape (n, 32) and dtype uint8, or None
        What the embedding of each image is cached under: the same for images of one content with
        one spec. None where the images were not read by ``extract``, as in loaded features.

    Examples
    --------
    >>> import numpy as np
    >>> from featx import Features
    >>> features = Features(np.zeros((2, 3), np.float32), np.array(["a", "b"], object), ["1", "2"])
    >>> len(features), features.classes, np.asarray(features).shape
    (2, ['a', 'b'], (2, 3))
    """

    X: np.ndarray
    y: np.ndarray | None
    ids: list[str]
    classes: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    spec: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    report: ExtractionReport | None = None
    digests: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.y is not None and not self.classes:
            self.classes = class_order(self.y.tolist())
        counts = {len(self.X), len(self.ids), len(self.X) if self.y is None else len(self.y)}
        if len(counts) > 1:
            raise DatasetError(
                f"{len(self.X)} embeddings, {len(self.ids)} ids and "
                f"{'no' if self.y is None else len(self.y)} labels; expected as many of each."
            )

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, rows: Any) -> Features:
        """Return some of the images: by position, slice, positions or a mask, as NumPy's rows.

        >>> import numpy as np
        >>> from featx import Features
        >>> features = Features(np.eye(3, dtype=np.float32), np.array(["a", "b", "a"]), list("xyz"))
        >>> features[features.y == "a"].ids
        ['x', 'z']
        """
        where = np.arange(len(self))[rows]
        if where.ndim > 1:
            raise IndexError("features are indexed by images alone; columns are those of .X")
        where = np.atleast_1d(where)
        y = None if self.y is None else self.y[where]
        ids = [self.ids[n] for n in where]
        digests = None if self.digests is None else self.digests[where]
        return Features(self.X[where], y, ids, spec=dict(self.spec), digests=digests)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.X, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        labels = f"{len(self.classes)} classes" if self.y is not None else "no labels"
        bad = f", {len(self.failures)} failures" if self.failures else ""
        n, dim = self.X.shape
        return f"<featx.Features: {n:,} x {dim:,} float32, {labels}{bad}>"

    def blocks(self, images: int = 8192) -> Iterator[Features]:
        """Yield the images in parts of so many, in order: what is too large for the memory.

        >>> import numpy as np
        >>> from featx import Features
        >>> features = Features(np.eye(3, dtype=np.float32), None, list("xyz"))
        >>> [block.ids for block in features.blocks(2)]
        [['x', 'y'], ['z']]
        """
        if images < 1:
            raise OptionError(f"images={images!r}: expected the images of a block, 1 or more.")
        for start in range(0, len(self), images):
            part = slice(start, start + images)
            y = None if self.y is None else self.y[part]
            digests = None if self.digests is None else self.digests[part]
            spec = dict(self.spec)
            yield Features(self.X[part], y, self.ids[part], spec=spec, digests=digests)

    def memmap(self, path: str | os.PathLike[str]) -> Features:
        """Write the embeddings to a .npy file, and return features that read them there.

        The memory need not hold them: heads that fit in blocks (`logistic`, `ridge`,
        `linear_svm`) train on the ``X`` that is returned, a read-only ``numpy.memmap``. The file
        appears whole or not at all.

        Raises
        ------
        OSError
            The folder is missing or cannot be written.
        """
        path = Path(path)
        check_target(path)
        with atomic.replacing(path) as temporary, open(temporary, "xb") as file:
            about = {"descr": "<f4", "fortran_order": False, "shape": self.X.shape}
            np.lib.format.write_array_header_1_0(file, about)
            for block in self.blocks():
                file.write(np.ascontiguousarray(block.X, "<f4").data)
            file.flush()
            os.fsync(file.fileno())
        return replace(self, X=np.load(path, mmap_mode="r"))

    def to_frame(self) -> pd.DataFrame:
        """Return a DataFrame: index `id`, a column `label` if there is one, then the numbers."""
        import pandas as pd

        columns = [f"f{i}" for i in range(self.X.shape[1])]
        frame = pd.DataFrame(
            np.asarray(self.X), index=pd.Index(self.ids, name="id"), columns=columns
        )
        if self.y is not None:
            frame.insert(0, "label", self.y)
        return frame

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one plain HDF5 file: `features`, `ids`, `labels`, `classes`, `failures`, `spec`.

        The file appears whole or not at all. Text is declared as UTF-8, for h5py's ``asstr()``;
        file names that are not UTF-8 have their own bytes: ``asstr(errors='surrogateescape')``.
        Labels that are numbers or booleans are written as such. A sha256 over all of it is an
        attribute, which ``load`` verifies.

        Raises
        ------
        OSError
            The folder is missing or cannot be written.
        TypeError, ValueError
            The spec is not data that strict JSON can hold, such as NaN.
        """
        import h5py

        path = Path(path)
        check_target(path)
        with (
            atomic.replacing(path) as temporary,
            _ErrorsAtTheEnd(temporary) as written,
            h5py.File(written, "w", libver=("v110", "v110")) as file,
        ):
            spec = json.dumps(self.spec, sort_keys=True, allow_nan=False)
            arrays = self._arrays()
            file.attrs["version"] = FORMAT
            marks = {"format": _MARK, "spec": spec, "sha256": _sha256(spec, arrays)}
            for name, text in marks.items():
                file.attrs[name] = _encoded([text])[0]
            for name, array in arrays.items():
                checked = name == "features" and bool(array.size)
                file.create_dataset(name, data=array, fletcher32=checked)

    def _arrays(self) -> dict[str, np.ndarray]:
        """Return what a file holds, by name."""
        arrays = {"features": np.asarray(self.X), "ids": _encoded(self.ids)}
        if self.y is not None:
            text = self.y.dtype.kind in "OU"
            for name, labels in (("labels", self.y), ("classes", self.classes)):
                arrays[name] = _encoded(labels) if text else np.asarray(labels, self.y.dtype)
        # Of the three only an id may hold tabs, so that it ends at the last but one.
        failures = ["\t".join((f.id, f.error, f.reason.replace("\t", " "))) for f in self.failures]
        return arrays | {"failures": _encoded(failures)}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Features:
        """Read a file written by ``save``; nothing that a foreign file points to is followed.

        Raises
        ------
        ModelVersionError
            Another version of featx wrote it.
        ModelFileError
            The file is not what ``save`` writes.
        FileNotFoundError
            The file does not exist.
        """
        import h5py

        if not os.path.exists(path):
            raise FileNotFoundError(f"no features file at {os.fspath(path)}.")
        try:
            with h5py.File(path, "r", locking=False) as file:
                if "format" not in file.attrs:
                    raise ValueError("it is not marked as featx features")
                _check_version(os.fspath(path), int(_attribute(file, "version", "iu")))
                if _attribute(file, "format", "S").decode() != _MARK:
                    raise ValueError("it is not marked as featx features")
                names = [name for name in _NAMES if name in file]
                arrays = {name: _plain(file, name, 2 if name == "features" else 1)[:]
                          for name in names}  # fmt: skip
                text = _attribute(file, "spec", "S").decode()
                if _attribute(file, "sha256", "S").decode() != _sha256(text, arrays):
                    raise ValueError("its content does not have the sha256 that it was saved with")
            X = arrays["features"].astype(np.float32, copy=False)
            y = _labels(arrays["labels"]) if "labels" in arrays else None
            classes = _labels(arrays["classes"]).tolist() if "classes" in arrays else []
            failures = [Failure(*(f.rsplit("\t", 2))) for f in _decoded(arrays["failures"])]
            spec = strict_json.loads(text)
            return cls(X, y, _decoded(arrays["ids"]), classes, failures, spec)
        except ModelVersionError:
            raise
        except Exception as error:  # the HDF5 library reports damage by many exceptions
            kind = "it is a folder" if os.path.isdir(path) else str(error)
            if zipfile.is_zipfile(path):
                kind = "it is a zip, such as a model, which featx.load reads"
            raise ModelFileError(
                f"{os.fspath(path)} is not a features file of featx, or is damaged: {kind}. "
                "Expected a file written by Features.save or featx extract --out."
            ) from error


def _check_version(path: str, version: int) -> None:
    if version == FORMAT:
        return
    remedy = "install a later featx"
    if version < FORMAT:
        remedy = "extract the images again (those that are cached are not computed again)"
    raise ModelVersionError(
        f"{path} is a features file of version {version}, and this featx reads version {FORMAT}: "
        f"{remedy}."
    )


class _ErrorsAtTheEnd(io.FileIO):
    """A new file that raises the error of a failed write only when it is closed, durable then.

    HDF5 does not survive a disk that fills up: the process crashes while it exits. Here it
    continues as if all were well, and the error is raised once it has closed the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "x+")
        self._error: OSError | None = None

    def write(self, content: Any, /) -> int:
        view = memoryview(content).cast("B")
        try:
            done = 0
            while self._error is None and done < len(view):
                done += super().write(view[done:]) or 0
        except OSError as error:
            self._error = error
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self._error = self._error or error
            return size or 0

    def __exit__(self, *raised: Any) -> None:
        try:
            if self._error is not None:
                raise self._error
            os.fsync(self.fileno())
        finally:
            super().__exit__(*raised)


def _encoded(texts: Iterable[str]) -> np.ndarray:
    """Return fixed-length bytes: any HDF5 reader knows them, and names that are not UTF-8 fit."""
    import h5py

    encoded = [str(text).encode("utf-8", "surrogateescape") for text in texts]
    length = max(map(len, encoded), default=1) or 1
    return np.array(encoded, dtype=h5py.string_dtype("utf-8", length))


def _labels(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "S":
        return array
    labels = np.empty(len(array), object)
    labels[:] = _decoded(array)
    return labels


def _decoded(array: np.ndarray) -> list[str]:
    if array.dtype.kind != "S":
        raise ValueError("names are not fixed-length text")
    return [text.decode("utf-8", "surrogateescape") for text in array]


def _sha256(spec: str, arrays: dict[str, np.ndarray]) -> str:
    """Return the digest of all that a file holds: names, types, shapes and bytes."""
    digest = hashlib.sha256(spec.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _attribute(file: Any, name: str, kinds: str) -> Any:
    """Return an attribute whose data is where it is declared.

    Texts of any length lie in a heap without checksums, in which HDF5 1.14.6 went round for ever
    after one bit was flipped.
    """
    import h5py

    attribute = h5py.h5a.open(file.id, name.encode())
    if attribute.dtype.kind not in kinds or attribute.shape != ():
        raise ValueError(f"its attribute {name!r} is of {attribute.dtype} and {attribute.shape}")
    return file.attrs[name]


def _plain(file: Any, name: str, ndim: int) -> Any:
    """Return a dataset whose data is in this file, and as much as it declares."""
    import h5py

    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name!r} is a link")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        raise ValueError(f"{name!r} stores its data outside the file")
    if dataset.ndim != ndim or dataset.dtype.kind not in "biufS":
        raise ValueError(f"{name!r} has {dataset.ndim} dimensions of {dataset.dtype}")
    if dataset.size * dataset.dtype.itemsize > dataset.id.get_storage_size():
        raise ValueError(f"{name!r} declares more than the file holds")
    return dataset
