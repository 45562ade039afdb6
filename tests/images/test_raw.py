"""RAW photographs and folders of a system's own; true TIFFs and ordinary folders stay images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from featx.errors import UnsupportedImageError
from featx.images import decoding, raw
from tests.promises import images as made

MAKE, SUBIFDS, DNG = made.MAKE, made.SUBIFDS, made.DNG


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (made.raw_photograph(DNG), "Adobe DNG"),
        (made.raw_photograph(DNG, order=">"), "Adobe DNG"),
        (made.raw_photograph(MAKE, SUBIFDS), "a camera's own TIFF"),
        (made.raw_photograph(MAKE, SUBIFDS, order=">"), "a camera's own TIFF"),
        (made.raw_photograph(MAKE, SUBIFDS, preview=False), "a camera's own TIFF"),
        (made.raw_photograph(SUBIFDS), "a camera's own TIFF"),  # a sensor's data in the SubIFD
        (made.raw_photograph(MAKE, photometric=32803), "a camera's own TIFF"),
        (made.raw_photograph()[:8] + b"CR\2\0" + made.raw_photograph()[12:], "Canon CR2"),
        (b"FUJIFILMCCD-RAW 0201" + bytes(99), "Fujifilm RAF"),
        (b"\0\0\0\x18ftypcrx " + bytes(99), "Canon CR3"),
        (b"IIRO\x08\0\0\0" + bytes(99), "Olympus ORF"),
        (b"IIU\0\x18\0\0\0" + bytes(99), "Panasonic RW2"),
    ],
)
def test_raw_by_content(content: bytes, kind: str) -> None:
    assert raw.kind_of(content) == kind
    with pytest.raises(UnsupportedImageError, match="a RAW photograph"):
        decoding.decode(content)


@pytest.mark.parametrize(
    "content",
    [
        made.raw_photograph(preview=False),
        made.raw_photograph(MAKE, preview=False),  # a scanner's
        made.raw_photograph(SUBIFDS, preview=False, sub_photometric=2),  # smaller copies behind it
        made.raw_photograph(MAKE, SUBIFDS, preview=False, sub_photometric=2),
        made.encoded(made.pixels(), "TIFF", compression="tiff_lzw"),
        made.encoded(made.pixels(), "TIFF", tiffinfo={271: "Epson", 272: "Perfection V600"}),
    ],
    ids=range(6),
)
def test_a_true_tiff_is_an_image(content: bytes, tmp_path: Path) -> None:
    assert raw.kind_of(content) is None
    (tmp_path / "x.tif").write_bytes(content)
    assert decoding.load(tmp_path / "x.tif", 32).shape == (32, 32, 3)


def test_pillow_would_have_read_the_preview() -> None:
    """Else the tests of RAW photographs would pass without a check."""
    image = made.opened(made.raw_photograph(MAKE, SUBIFDS, DNG))
    assert (image.format, image.size) == ("TIFF", (80, 60))
    np.testing.assert_array_equal(np.asarray(image), made.pixels())


def test_the_suffix_decides_only_for_a_tiff(tmp_path: Path) -> None:
    plain = made.encoded(made.pixels(), "TIFF")
    with pytest.raises(UnsupportedImageError, match=r"RAW photograph \(.nef in a TIFF"):
        decoding.decode(plain, "x.NEF")
    np.testing.assert_array_equal(decoding.decode(made.png(), "x.nef"), made.pixels())


@pytest.mark.parametrize("step", range(0, 220, 3))
def test_a_cut_directory_does_no_harm(step: int) -> None:
    """A file that ends early or is damaged is the same kind as before, or none; it never raises."""
    whole = made.raw_photograph(MAKE, SUBIFDS)
    kind = raw.kind_of(whole)
    assert kind is not None
    assert raw.kind_of(whole[:step]) in (kind, None)
    assert raw.kind_of(whole[:step] + b"\xff" * 9 + whole[step + 9 :]) in (kind, None)


@pytest.mark.parametrize(
    "place",
    [
        "cat/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg",
        "#recycle/1.jpg",
        "cat/$RECYCLE.BIN/1.jpg",
        "lost+found/1.jpg",
        "cat/.@__thumb/s1001.jpg",
        "@Recycle/1.jpg",
    ],
)
def test_an_image_in_a_systems_folder_is_refused_by_its_place(place: str, tmp_path: Path) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_bytes(made.png())
    with pytest.raises(UnsupportedImageError, match="a NAS or an operating system keeps"):
        decoding.load(path, 32)


@pytest.mark.parametrize("name", ["recycle", "snapshot", "lost and found", "eaDir", "thumb"])
def test_a_class_may_have_such_a_name(name: str) -> None:
    assert raw.system_folder(f"pets/{name}/1.jpg") is None
