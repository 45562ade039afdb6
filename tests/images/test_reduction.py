"""Large JPEGs are reduced while they are decoded: which, how truly, and under what address."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from featx.images import bounds, decoding, reduction
from featx.images.content_hash import of_content
from featx.images.preparation import Preparation
from tests.promises import images as made

AUTO = Preparation("auto")


def drawn(size: tuple[int, int], mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Return smooth colours with a fine texture, as a photograph has."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    image = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), np.int16)
    image = image + rng.integers(-12, 13, (*image.shape[:2], 1), dtype=np.int16)
    return Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, "JPEG", **{"quality": 92, **options})
    return content.getvalue()


def apart(content: bytes, side: int, **how: str) -> np.ndarray:
    """Return how far the reduced image is from the one decoded in full, in grey levels."""
    full = decoding.load(content, side, how=Preparation(**how))
    found = decoding.load(content, side, how=Preparation("auto", **how))
    assert found.shape == full.shape
    return np.abs(found.astype(int) - full.astype(int))


@pytest.mark.parametrize(
    ("size", "side", "by"),
    [
        ((4000, 3000), 224, 4),
        ((4000, 3000), 187, 8),
        ((4000, 3000), 188, 4),
        ((8000, 6000), 224, 8),
        ((2000, 1500), 224, 2),
        ((3000, 895), 224, 1),
        ((896, 3000), 224, 2),
        ((999, 1000), 32, 1),  # less than a megapixel
        ((1000, 1000), 32, 8),
    ],
)
def test_the_rule_keeps_twice_the_side_of_both_edges(
    size: tuple[int, int], side: int, by: int
) -> None:
    assert reduction.divisor(size, side, AUTO) == by
    assert reduction.divisor(size, side, Preparation()) == 1
    assert reduction.divisor(size, side, Preparation("scaled")) == 1


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("size", [(1200, 1000), (1217, 1003), (1003, 1211)])
def test_a_reduced_image_is_the_full_one_but_for_a_grey_level(
    size: tuple[int, int], mode: str, progressive: bool
) -> None:
    content = encoded(drawn(size, mode), progressive=progressive)
    assert bounds.holds(content)
    for side, by in ((120, 4), (62, 8), (200, 2)):
        assert reduction.divisor(reduction.edges_of(content), side, AUTO) == by
        for resize in ("squash", "crop"):
            off = apart(content, side, resize=resize)
            assert off.any(), "it was not reduced"
            assert off.mean() < 0.7
            assert off.max() <= 8  # at the borders, too


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_is_reduced_as_it_is_seen(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(drawn((1217, 1003)), exif=exif)
    for resize in ("squash", "crop"):
        off = apart(content, 100, resize=resize)
        assert off.any()
        assert off.max() <= 8


def test_what_fills_the_last_blocks_is_no_border() -> None:
    """As of an encoder that fills with black: the header says less than what was encoded."""
    for width, height in ((1201, 1001), (1207, 1005)):
        whole = np.zeros((1008, 1208, 3), np.uint8)
        whole[:height, :width] = 200
        content = bytearray(encoded(Image.fromarray(whole), subsampling=0, quality=98))
        at = content.index(b"\xff\xc0") + 5
        content[at : at + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
        found = decoding.load(bytes(content), 100, how=AUTO).astype(int)
        assert np.abs(found[:-1, :-1] - 200).max() <= 12
        # The frequencies that are left out ring: a little, and in the last row and column alone.
        assert np.abs(found - 200).max() <= 30
        plain = Image.open(io.BytesIO(content))
        plain.draft(None, (200, 200))
        border = np.asarray(plain.resize((100, 100), Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(border - 200).max() > np.abs(found - 200).max()


def test_an_mpo_of_a_telephone_is_reduced() -> None:
    content = io.BytesIO()
    first, second = drawn((1216, 1000)), drawn((1216, 1000), seed=1)
    first.save(content, "MPO", save_all=True, append_images=[second], quality=92)
    off = apart(content.getvalue(), 100)
    assert off.any()
    assert off.max() <= 8


def test_a_process_with_limits_reduces_alike() -> None:
    content = encoded(drawn((1217, 1003)))
    for resize in ("squash", "crop"):
        how = Preparation("auto", resize)
        apart_from_here = decoding.load(content, 100, how=how, apart=True)
        np.testing.assert_array_equal(apart_from_here, decoding.load(content, 100, how=how))


@pytest.mark.parametrize(
    "content", [made.png(), made.cmyk(), b"\xff\xd8\xff", b"", b"\xff\xd8\xff\xe0\0"]
)
def test_all_else_is_what_it_was_under_its_own_address(content: bytes) -> None:
    edges, digest = reduction.edges_of(content), of_content(content)
    assert reduction.address(digest, edges, 8, AUTO) == digest
    if content and len(content) > 10:
        assert not apart(content, 8).any()


def test_pixels_are_not_reduced() -> None:
    pixels = np.asarray(drawn((1200, 1000)))
    assert reduction.edges_of(pixels) == (0, 0)
    same = decoding.load(pixels, 100), decoding.load(pixels, 100, how=AUTO)
    np.testing.assert_array_equal(*same)


def test_a_cut_large_photograph_is_named_alike(tmp_path: Path) -> None:
    content = encoded(drawn((1217, 1003)))
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    said = []
    for how in (Preparation(), AUTO):
        with pytest.raises(decoding.ImageError) as caught:
            decoding.load(tmp_path / "cut.jpg", 100, how=how)
        said.append((type(caught.value), str(caught.value)))
    assert said[0] == said[1]
