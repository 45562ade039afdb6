"""HEIF files, which phones write as .heic, through the package of the extra `heic`."""

from __future__ import annotations

from typing import Any

from PIL import Image

from featx.errors import MissingDecoderError

# Decode-only, so that nothing under the GPL is needed; what also encodes is used where it is there.
_PACKAGES = ("pi_heif", "pillow_heif")


def opened(content: bytes) -> Any:
    """Return the primary image of a HEIF file, not yet decoded: `size`, and `to_pillow()`.

    Its size and pixels are upright: the file's own transformations are part of decoding, and the
    orientation in its EXIF block, which repeats them, is taken away. Pillow is not told of the
    format, so nothing else in the process reads it for that.

    Raises
    ------
    MissingDecoderError
        The package is not installed.
    ValueError, OSError, RuntimeError, EOFError, SyntaxError
        The file is damaged, or coded in a way that the package does not decode.
    """
    file = _package().open_heif(content, convert_hdr_to_8bit=True)
    return file[file.primary_index]


def decoded(image: Any) -> Image.Image:
    """Return what `opened` gave as an image that is in memory."""
    pixels: Image.Image = image.to_pillow()
    return pixels


def use_one_thread() -> None:
    """Let the package, where it is installed, decode in the thread that asks for it."""
    try:
        _package().options.DECODE_THREADS = 1
    except MissingDecoderError:
        return


def _package() -> Any:
    import importlib

    for name in _PACKAGES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise MissingDecoderError(
        "a HEIC/HEIF image, which needs a package of its own: pip install 'featx[heic]'; or save "
        "it as JPEG"
    )
