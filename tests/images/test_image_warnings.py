from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from featx.images import decoding, image_warnings
from tests.promises import images as made


def kinds_of(content: bytes, name: str = "x") -> list[str]:
    return list(decoding.at_side_with_remarks(content, 32, name).remarks)


@pytest.mark.parametrize(
    ("content", "name", "expected"),
    [
        (made.jpeg(), "x.jpg", []),
        (made.png(), "x", []),
        (made.png("RGBA"), "x.png", []),
        (made.encoded(made.transparent(128), "PNG"), "x.png", ["transparent"]),
        (made.encoded(made.transparent(0), "PNG"), "x.png", ["invisible"]),
        (made.palette_with_transparency(), "x.png", ["transparent"]),
        (made.cmyk(), "x.jpg", ["cmyk"]),
        (made.animated("GIF"), "x.gif", ["frames"]),
        (made.animated("WEBP"), "x.webp", ["frames"]),
        (made.tiff_pages(), "x.tif", ["frames"]),
        (made.png(), "x.JPG", ["misnamed"]),
        (made.encoded(Image.new("RGB", (1, 1)), "PNG"), "x.png", ["tiny"]),
        (made.encoded(Image.new("RGB", (20, 2000)), "PNG"), "x.png", ["slender"]),
    ],
)
def test_kinds(content: bytes, name: str, expected: list[str]) -> None:
    assert kinds_of(content, name) == expected


def test_sentences_count_and_name_the_first() -> None:
    seen = image_warnings.Remarks()
    assert seen.sentences() == []
    seen.add("a.png", ["tiny", "transparent"])
    seen.add("b.png", ["tiny"])
    tiny, transparent = seen.sentences()
    assert tiny.startswith("2 newly read images smaller than 16 pixels")
    assert "(such as a.png)" in tiny
    assert transparent.startswith("1 newly read image with transparent parts")


def conflict(labels: list[Any], contents: list[int]) -> list[str]:
    digests = np.array([[content] * 32 for content in contents], np.uint8)
    return image_warnings.label_conflicts(digests, labels, [f"{i}.png" for i in range(len(labels))])


def test_same_content_with_two_labels_is_told() -> None:
    (sentence,) = conflict(["a", "b", "a", "b"], [7, 8, 7, 7])
    assert sentence.startswith("1 image of the same content")
    assert "2.png and 3.png" in sentence


@pytest.mark.parametrize(
    ("labels", "contents"),
    [(["a", "a"], [7, 7]), (["a", "b"], [7, 8]), ([None, None], [7, 7])],
)
def test_no_conflict_no_word(labels: list[Any], contents: list[int]) -> None:
    assert conflict(labels, contents) == []


def test_no_images() -> None:
    assert image_warnings.label_conflicts(np.empty((0, 32), np.uint8), [], []) == []
