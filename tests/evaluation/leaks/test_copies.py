"""Changed copies are graded by geometry; what a whole set has in common makes no pair."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from featx.datasets.dataset import Dataset
from featx.datasets.items import Item
from featx.evaluation.leaks import candidates, copies, geometry
from featx.evaluation.leaks.geometry import Grade
from featx.evaluation.protocol.splits import EmbeddedImages
from tests.evaluation.leaks import planted
from tests.evaluation.seam import embedded


def photograph(seed: int) -> Image.Image:
    """Return shapes of many sizes and tones, 320 x 240."""
    rng = np.random.default_rng(seed)
    total = np.zeros((240, 320, 3))
    for step, strength in ((4, 20), (12, 30), (40, 40)):
        coarse = rng.normal(size=(240 // step + 2, 320 // step + 2, 3)).astype(np.float32)
        for channel in range(3):
            layer = Image.fromarray(coarse[..., channel])
            total[..., channel] += strength * np.asarray(layer.resize((320, 240), 3))
    return Image.fromarray(np.clip(128 + total, 0, 255).astype(np.uint8))


def seen(image: Image.Image) -> geometry.View:
    view = geometry.view(Item("x", None, planted.encoded(image, 85)))
    assert view is not None
    return view


def sets(images: Sequence[Image.Image], X: np.ndarray, cut: int) -> list[EmbeddedImages]:
    items = [Item(str(n), "a", planted.encoded(one, 85)) for n, one in enumerate(images)]
    return [
        embedded(Dataset(items[:cut]), X[:cut]),
        embedded(Dataset(items[cut:]), X[cut:]),
    ]


@pytest.mark.parametrize("kind", planted.KINDS)
def test_a_changed_copy_is_the_same_photograph(kind: str) -> None:
    original = photograph(0)
    rng = np.random.default_rng(1)
    for _ in range(4):
        found = geometry.compare(seen(original), seen(planted.copied(original, kind, rng)))
        assert found is not None
        assert found[0] is Grade.PHOTOGRAPH


def test_something_else_in_the_middle_is_the_same_scene() -> None:
    original = photograph(0)
    changed = planted.copied(original, "scene", np.random.default_rng(0))
    found = geometry.compare(seen(original), seen(changed))
    assert found is not None
    assert found[0] is Grade.SCENE
    assert 0.4 < found[2].explained < 0.9


def test_different_photographs_are_nothing() -> None:
    views = [seen(photograph(n)) for n in range(6)]
    for n, first in enumerate(views):
        assert all(geometry.compare(first, second) is None for second in views[n + 1 :])


def smooth(seed: int) -> Image.Image:
    """Return 128 x 128 pixels of grey with hardly any contrast, as of rolled steel."""
    rng = np.random.default_rng(seed)
    total = np.linspace(105, 135, 128)[None, :] + np.zeros((128, 128))
    for step, strength in ((1, 1.5), (4, 2), (8, 5)):
        coarse = rng.normal(size=(128 // step + 2,) * 2).astype(np.float32)
        total = total + strength * np.asarray(Image.fromarray(coarse).resize((128, 128), 3))
    return Image.fromarray(np.clip(total, 0, 255).astype(np.uint8)).convert("RGB")


def test_what_is_smooth_is_no_fill() -> None:
    whole = seen(smooth(0))
    quarter = seen(smooth(0).crop((20, 30, 84, 94)))
    for view in (whole, quarter):
        assert view.inside.mean() > 0.9
        assert not view.plain
    for colour in ("black", "white", (60, 70, 60)):
        framed = seen(ImageOps.expand(smooth(0), 12, colour))
        assert abs(framed.inside.mean() - (128 / 152) ** 2) < 0.08
        found = geometry.compare(whole, framed)
        assert found is not None
        assert found[0] is Grade.PHOTOGRAPH


def test_a_mirrored_copy_is_laid_on_its_original() -> None:
    original = photograph(0)
    mirrored = original.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    aligned = geometry.align(seen(original), seen(mirrored))
    assert aligned is not None
    np.testing.assert_allclose(aligned.affine, [[-1, 0, 255], [0, 1, 0]], atol=0.6)
    width = 256
    np.testing.assert_allclose(
        aligned.matched[:, 0], width - 1 - aligned.matched[:, 2], atol=geometry._PIXELS_OFF + 1
    )


def test_what_all_images_show_makes_no_pair() -> None:
    """One print and one grid in every image, as one camera over a belt sees them."""
    rng = np.random.default_rng(0)
    common = planted._noise(np.random.default_rng(1), 96)
    tiles = [planted._tile(rng, common) for _ in range(30)]
    first = geometry.compare(seen(tiles[0]), seen(tiles[1]))
    assert first is not None
    X = np.random.default_rng(0).normal(size=(31, 8)).astype(np.float32)
    # One of them is copied: that is a pair still.
    tiles.append(planted.copied(tiles[3], "mirrored", rng))
    X[30] = X[3] + 0.01
    found = copies.find(*sets(tiles, X, 25))
    assert [(p.first.id, p.second.id) for p in found.pairs] == [("3", "30")]
    assert found.test_groups is not None
    assert found.test_groups[-1] == found.groups[3]


def test_images_that_share_a_part_of_a_template_are_not_copies() -> None:
    """Six show more of it than a pair must agree in, most show less."""
    images = []
    for n in range(18):
        image, shared = photograph(n + 1), 0.72 if n < 6 else 0.5
        image.paste(photograph(0).crop((0, 0, int(320 * shared), 240)))
        images.append(image)
    X = np.random.default_rng(0).normal(size=(18, 8)).astype(np.float32)
    first = geometry.compare(seen(images[0]), seen(images[1]))
    assert first is not None
    assert first[0] is Grade.SCENE
    found = copies.find(*sets(images, X, 9))
    assert found.pairs == ()
    # A copy among them agrees in all.
    images[17] = images[0].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    (pair,) = copies.find(*sets(images, X, 9)).pairs
    assert (pair.first.id, pair.second.id, pair.grade) == ("0", "17", Grade.PHOTOGRAPH)


def test_forms_that_were_filled_in_differently_are_not_copies() -> None:
    """All but the names agrees, so that one map explains nearly the whole of any two."""
    forms = []
    for number in range(20):
        form = Image.new("RGB", (400, 300), "white")
        draw = ImageDraw.Draw(form)
        rng = np.random.default_rng(number)
        for line in range(8):
            draw.rectangle([20, 20 + 33 * line, 380, 48 + 33 * line], outline="black")
            draw.text((25, 25 + 33 * line), f"{'ABCDEFGH'[line]}. Name and address", fill="black")
            name = "".join(chr(97 + letter) for letter in rng.integers(0, 26, 18))
            draw.text((190, 25 + 33 * line), name, fill="blue")
        forms.append(form)
    assert geometry.compare(seen(forms[0]), seen(forms[1])) is not None
    found = copies.find(*sets(forms, np.ones((20, 4), np.float32), 12))
    assert found.looked_at > 100
    assert found.pairs == ()


def test_the_most_promising_pairs_are_looked_at_within_the_budget() -> None:
    images = [photograph(n) for n in range(8)]
    images += [planted.copied(images[2], "rotated", np.random.default_rng(0))]
    X = np.random.default_rng(0).normal(size=(9, 16)).astype(np.float32)
    X[8] = X[2] + 0.01
    found = copies.find(*sets(images, X, 6), most_pairs=5)
    assert found.looked_at == 5
    assert found.candidates == 36
    assert [(pair.first.id, pair.second.id) for pair in found.pairs] == [("2", "8")]
    nothing = copies.find(*sets(images, X, 6), most_pairs=0)
    assert (nothing.pairs, nothing.looked_at) == ((), 0)


def test_nearest_of_the_other_part_are_candidates() -> None:
    # Each test image has more neighbours in its own part than are looked at.
    rng = np.random.default_rng(0)
    unit = rng.normal(size=(40, 3)).astype(np.float32)
    unit[20:] = unit[20] + 0.01 * rng.normal(size=(20, 3))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    found = candidates._nearest(unit, 20)
    for n in range(20, 40):
        best = int(np.argmax(unit[:20] @ unit[n]))
        assert (best, n) in found


def test_plain_images_are_counted_and_only_unchanged_copies_found() -> None:
    plain = []
    for n in range(6):
        x = np.linspace(0, 1, 120)[None, :] * np.linspace(1, 2, 90)[:, None]
        ramp = np.clip(100 + 40 * np.sin(3 * x + n), 0, 255).astype(np.uint8)
        plain.append(Image.fromarray(np.repeat(ramp[..., None], 3, axis=2)))
    X = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    found = copies.find(*sets(plain, X, 4))
    assert found.plain == 6
    assert all(pair.points == 0 for pair in found.pairs)


def test_opencv_has_its_threads_again() -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        images = [photograph(n) for n in range(4)]
        copies.find(*sets(images, np.eye(4, dtype=np.float32), 2))
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


@pytest.mark.parametrize("kind", planted.SYNTHETIC)
def test_different_images_on_one_background_are_nothing(kind: str, tmp_path: object) -> None:
    paths = planted.distinct(kind, tmp_path, 24, 3)
    images = [Image.open(path) for path in paths]
    pixels = np.stack([np.asarray(one.convert("L").resize((16, 16)), np.float32) for one in images])
    found = copies.find(*sets(images, pixels.reshape(24, -1), 12))
    assert found.looked_at > 100
    assert found.pairs == ()
