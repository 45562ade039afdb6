"""The errors featx raises: each names what came, what was expected and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class FeatxError(Exception):
    """The base class of featx's errors.

    Beside them featx raises what Python's, numpy's and scikit-learn's protocols ask for:
    FileNotFoundError, FileExistsError and IsADirectoryError for a path, IndexError for an index,
    AttributeError and NotFittedError for a method that an estimator has not or not yet.
    """


class OptionError(FeatxError, ValueError):
    """An argument has a value that is not allowed; the message names the allowed ones."""


class DatasetError(FeatxError, ValueError):
    """The dataset cannot be read as ordered images with optional labels."""


class EmptyDatasetError(DatasetError):
    """The dataset contains no images."""


class InputRangeError(DatasetError):
    """Pixel values are not in 0-255; most often the array was already divided by 255."""


class ImageError(FeatxError):
    """One image cannot be used; `code` says why in one byte that a shard can hold.

    Attributes
    ----------
    permanent : bool
        True if the same bytes always fail in the same way, so that the failure may be cached.
    """

    code = 1
    permanent = True


class NotAnImageError(ImageError):
    """The bytes are not an image in a supported format."""

    code = 2


class TruncatedImageError(ImageError):
    """The file ends before the image does."""

    code = 3


class ImageDecodeError(ImageError):
    """The format is supported, but the content is damaged."""

    code = 4


class ImageTooLargeError(ImageError):
    """The image or its file exceeds the stated limit; it was not decoded."""

    code = 5


class UnsupportedImageError(ImageError):
    """The image has no faithful 8-bit RGB form, such as a float TIFF."""

    code = 6


class MissingDecoderError(UnsupportedImageError):
    """A decoder that this machine lacks; it may be installed, so the failure is not cached."""

    code = 9
    permanent = False


class ImageReadError(ImageError):
    """The file could not be read this time; the failure is not cached."""

    code = 7
    permanent = False


class ImageChangedError(ImageReadError):
    """The file changed while it was being read."""

    code = 8


class ImageMemoryError(ImageError):
    """There was not enough memory to decode the image; the failure is not cached."""

    code = 10
    permanent = False


class ImageLimitError(ImageError):
    """Decoding the image was stopped at a limit, or its decoder crashed; that is not cached."""

    code = 11
    permanent = False


class WorkerDiedError(ImageError):
    """A worker process ended each time that it had this image; that is not cached."""

    code = 12
    permanent = False


IMAGE_ERRORS: dict[int, type[ImageError]] = {
    error.code: error
    for error in (
        ImageError,
        NotAnImageError,
        TruncatedImageError,
        ImageDecodeError,
        ImageTooLargeError,
        UnsupportedImageError,
        ImageReadError,
        ImageChangedError,
        MissingDecoderError,
        ImageMemoryError,
        ImageLimitError,
        WorkerDiedError,
    )
}


@dataclass(frozen=True)
class Failure:
    """One image that has no embedding: its id, the name of its error and the reason."""

    id: str
    error: str
    reason: str

    def __str__(self) -> str:
        # Shown in tracebacks and logs: a name may hold what a terminal obeys.
        name = "".join(char if char.isprintable() else repr(char)[1:-1] for char in self.id)
        return f"{name}: {self.reason} [{self.error}]"


class ExtractionError(FeatxError):
    """The extraction could not be completed."""


class EngineError(ExtractionError):
    """A cluster, or one of its workers, cannot do what is asked; the message names it."""


class BadImagesError(ExtractionError):
    """Some images have no embedding; the embeddings of all others are cached.

    Attributes
    ----------
    failures : list of Failure
        One entry per bad image, in dataset order.
    """

    remedy = (
        "All other embeddings are cached. Repair or remove these files, or pass on_error='skip' "
        "(command line: --on-error skip) to leave them out."
    )

    def __init__(self, failures: Sequence[Failure], total: int) -> None:
        self.failures = list(failures)
        self.total = total
        shown = "\n".join(f"  {failure}" for failure in self.failures[:20])
        more = len(self.failures) - 20
        tail = f"\n  ... and {more} more (error.failures lists them all)" if more > 0 else ""
        super().__init__(
            f"{len(self.failures)} of {total} images cannot be used:\n{shown}{tail}\n{self.remedy}"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.failures, self.total)


class TooManyBadImagesError(BadImagesError):
    """So many images are bad that the cause must be elsewhere; the run stopped early."""

    remedy = (
        "The run stopped early because more than max(20, 5 %) of the images are bad, so the "
        "cause is probably not in single files: check the folder, the disk or the mount. "
        "The embeddings computed so far are cached."
    )


class UnusableImagesError(BadImagesError):
    """Some images cannot be decoded, so that they can be neither trained on nor classified."""

    remedy = "Repair or remove these files, or give a dataset without them (Dataset.subset)."


class OutOfMemoryError(ExtractionError, MemoryError):
    """The device or the host does not have enough memory for the smallest batch.

    Attributes
    ----------
    batch_size : int or None
        Images in the batch that did not fit.
    """

    def __init__(self, message: str, batch_size: int | None = None) -> None:
        super().__init__(message)
        self.batch_size = batch_size

    def __reduce__(self) -> tuple[Any, ...]:
        # In so many words: where Dask was imported, errors travel in a way that MemoryError lacks.
        return type(self), (*self.args, self.batch_size)


class NonFiniteError(ExtractionError, ArithmeticError):
    """The network returned NaN or infinity; the block was not cached."""


class BackboneError(FeatxError, ValueError):
    """The backbone or one of its options cannot be used."""


class UnknownBackboneError(BackboneError):
    """There is no backbone of that name."""


class WeightsUnavailableError(BackboneError):
    """The weights are not on disk and could not be downloaded."""


class WeightsIntegrityError(BackboneError):
    """The weights file is damaged or does not fit the network."""


class RuntimeUnavailableError(FeatxError, ImportError):
    """The requested runtime is not installed or cannot run this backbone."""


class CacheError(FeatxError):
    """The cache cannot be used as requested."""


class CacheCorruptError(CacheError):
    """A cached file is damaged."""


class CacheSecurityError(CacheCorruptError):
    """A cached file contains what featx never writes: links, external storage, odd shapes."""


class CacheOwnershipError(CacheError):
    """A cache that was found, and not named, belongs to somebody else or is writable for all."""


class CacheKeyMismatchError(CacheCorruptError):
    """A shard is stored under a key or a name that is not its own."""


class CacheVersionError(CacheError):
    """The cache has a format that this version cannot read; it was left untouched."""


class CacheEnvironmentError(CacheError):
    """Embeddings computed here differ from those cached by another environment."""


class CacheWriteError(CacheError, OSError):
    """The cache cannot be written to."""


class CacheSpaceError(CacheWriteError):
    """The disk or the quota is full; what was published before remains."""


class ModelFileError(FeatxError, ValueError):
    """A saved model or features file cannot be used."""


class ModelFormatError(ModelFileError):
    """The file is not a model saved by featx; nothing in it was executed."""


class ModelIntegrityError(ModelFileError):
    """The file is not what was saved: a part is missing or has a different digest."""


class ModelTrustError(ModelFileError):
    """The file contains what featx never writes, such as objects that run code when loaded."""


class ModelVersionError(ModelFileError):
    """The file requires another version of featx or of a library."""


class ExportError(FeatxError, ValueError):
    """The model cannot be exported to that format; the message lists the formats it can have."""


class HeadError(FeatxError, ValueError):
    """There is no head of that name, or the head cannot do what was requested."""


class FeatureMismatchError(ModelFileError):
    """The features come from a backbone other than the one the head was trained with."""


class CacheCorruptWarning(UserWarning):
    """A damaged shard was quarantined; its embeddings are computed again."""
