"""The errors featx raises: each names what came, what was expected and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class FeatxError(Exception):
    """The parent of every error that featx raises on purpose."""


class DatasetError(FeatxError, ValueError):
    """The dataset cannot be read as ordered images with optional labels."""


class EmptyDatasetError(DatasetError):
    """The dataset holds no image."""


class InputRangeError(DatasetError):
    """Pixels are not 0-255: most often an array already divided by 255."""


class ImageError(FeatxError):
    """One image cannot be used; `code` says why in one byte that a shard can hold.

    Attributes
    ----------
    permanent : bool
        True where the same bytes fail the same way each time, so that the verdict may be kept.
    """

    code = 1
    permanent = True


class NotAnImageError(ImageError):
    """The bytes are no image of an allowed format."""

    code = 2


class TruncatedImageError(ImageError):
    """The file ends before the image does."""

    code = 3


class ImageDecodeError(ImageError):
    """The format is right and the content damaged."""

    code = 4


class ImageTooLargeError(ImageError):
    """The image or its file is over the stated limit; it was not decoded."""

    code = 5


class UnsupportedImageError(ImageError):
    """A image of a kind that has no honest 8-bit RGB form here, such as float TIFF."""

    code = 6


class ImageReadError(ImageError):
    """The file could not be read this time; nothing is kept of the failure."""

    code = 7
    permanent = False


class ImageChangedError(ImageReadError):
    """The file changed while it was read."""

    code = 8


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
    )
}


@dataclass(frozen=True)
class Failure:
    """One image that has no row: its id, the name of its error and the reason."""

    id: str
    error: str
    reason: str

    def __str__(self) -> str:
        return f"{self.id}: {self.reason} [{self.error}]"


class ExtractionError(FeatxError):
    """The extraction could not be completed."""


class BadImagesError(ExtractionError):
    """Some images have no row; the rows of all others are kept.

    Attributes
    ----------
    failures : list of Failure
        One entry a bad image, in dataset order.
    """

    remedy = (
        "Every good row is kept. Mend or remove these files, or pass on_error='skip' "
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
    """So many images are bad that the fault must be elsewhere; the run stopped early."""

    remedy = (
        "The run stopped early because more than max(20, 5 %) of the images are bad, so the "
        "fault is probably not in single files: check the folder, the disk or the mount. "
        "Rows computed so far are kept."
    )


class UnusableImagesError(BadImagesError):
    """Some images cannot be decoded, so that they can be neither trained on nor classified."""

    remedy = "Mend or remove these files, or give a dataset without them (Dataset.subset)."


class OutOfMemoryError(ExtractionError, MemoryError):
    """The device or the host has no memory for the smallest batch."""


class NonFiniteError(ExtractionError, ArithmeticError):
    """The network gave NaN or infinity; the block was not kept."""


class BackboneError(FeatxError, ValueError):
    """The backbone or one of its options cannot be used."""


class UnknownBackboneError(BackboneError):
    """No backbone has that name."""


class WeightsUnavailableError(BackboneError):
    """The weights are not on disk and could not be fetched."""


class WeightsIntegrityError(BackboneError):
    """The weights file is damaged or does not fit the network."""


class RuntimeUnavailableError(FeatxError, ImportError):
    """The runtime asked for is not installed or cannot run this backbone."""


class CacheError(FeatxError):
    """The cache cannot be used as asked."""


class CacheCorruptError(CacheError):
    """A file of the cache is damaged."""


class CacheSecurityError(CacheCorruptError):
    """A file of the cache holds what featx never writes: links, external storage, odd shapes."""


class CacheKeyMismatchError(CacheCorruptError):
    """A shard lies under a key or a name that is not its own."""


class CacheVersionError(CacheError):
    """The cache has a format that this version does not know; it was left untouched."""


class CacheEnvironmentError(CacheError):
    """Rows computed here differ from those kept by another environment."""


class CacheWriteError(CacheError, OSError):
    """The cache cannot be written."""


class CacheSpaceError(CacheWriteError):
    """The disk or the quota is full; what was published before is kept."""


class ModelFileError(FeatxError, ValueError):
    """A saved model or feature file cannot be used."""


class ModelFormatError(ModelFileError):
    """The file is no saved model of featx; nothing of it was run."""


class ModelIntegrityError(ModelFileError):
    """The file is not what was saved: a part is missing or has another digest."""


class ModelTrustError(ModelFileError):
    """The file holds what featx never writes, such as objects that run code when loaded."""


class ModelVersionError(ModelFileError):
    """The file needs another version of featx or of a library."""


class ExportError(FeatxError, ValueError):
    """The model cannot be written in that form; the message says which forms it can have."""


class HeadError(FeatxError, ValueError):
    """No head has that name, or the head cannot do what is asked of it."""


class FeatureMismatchError(ModelFileError):
    """The rows come from another backbone than the head was trained on."""


class CacheCorruptWarning(UserWarning):
    """A damaged shard was set aside; its rows are computed again."""
