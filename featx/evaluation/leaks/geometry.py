"""Whether two images show the same thing: local features, one affine map, the aligned overlap."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from featx.datasets.items import Item
from featx.errors import ImageError
from featx.images import decoding

# Pixels of the longer edge at which images are compared; smaller ones are enlarged to LEAST_SIDE.
SIDE = 256
LEAST_SIDE = 224
POINTS = 300
# With fewer local features an image is plain: nothing tells it from its like by geometry.
FEWEST_POINTS = 8
# Agreeing points from which on the overlap is looked at. Different images have up to 11 by chance.
LEAST_AGREEING = 8
# An eighth of what OpenCV asks by default: steel and cloth have hardly any contrast.
_CONTRAST = 0.005
# Lowe (2004, "Distinctive Image Features from Scale-Invariant Keypoints") rejects at 0.8.
_RATIO = 0.8
_PIXELS_OFF = 4.0
# An affine map of a copy: up to four times larger, squeezed to no less than a half.
_LARGEST = 4.0
_MOST_SQUEEZED = 2.0
# Grey levels by which the fill around a turned or framed image differs in a place and in all of it:
# JPEG's noise. Smooth steel, enlarged, is as flat in a place, but of many tones in all.
_FILL_LEVELS = 6
# Windows of the overlap, in pixels, and grey levels (standard deviation) that are no noise.
_WINDOW = 15
_LEVELS = 4.0
# Fewer windows, a quarter of 15 x 15 pixels apart, and a smaller share of the smaller image say
# nothing.
_LEAST_WINDOWS = 40
_LEAST_AREA = 0.1
# Of one photograph, shares of the overlap's middle and of all of it (reflected fill does not agree)
# and grey levels that are left after a fit of tone.
_MIDDLE = 0.9
_ALL = 0.6
_MOST_LEVELS = 8.0
# Of one scene: many agreeing points and more than half of the overlap, or some and most of it.
# Drawn coins on black that differ agree in up to 15 points and 0.62, and, where their rims are
# equal to the pixel, in 64 points and 0.57.
_SCENES = ((20, 0.6), (12, 0.75))


class Grade(StrEnum):
    """How two images are the same."""

    FILE = "same file"
    PHOTOGRAPH = "same photograph"
    SCENE = "same scene"


@dataclass(frozen=True, eq=False)
class View:
    """What is compared of an image.

    Attributes
    ----------
    grey : ndarray of uint8, shape (height, width)
    inside : ndarray of uint8, shape (height, width)
        1 where there is an image, 0 in uniform fill at its edges.
    points : ndarray of float32, shape (n, 2)
        x and y of its local features.
    descriptors : ndarray of uint8, shape (n, 128)
    """

    grey: np.ndarray
    inside: np.ndarray
    points: np.ndarray
    descriptors: np.ndarray

    @property
    def plain(self) -> bool:
        """Whether there are too few local features to compare."""
        return len(self.points) < FEWEST_POINTS


@dataclass(frozen=True, eq=False)
class Alignment:
    """How the second image lies on the first.

    Attributes
    ----------
    points : int
        Local features that agree with the map.
    affine : ndarray of float64, shape (2, 3)
        From pixels of the second image to pixels of the first.
    matched : ndarray of float32, shape (k, 4)
        The features: x and y in the first image, x and y in the second.
    """

    points: int
    affine: np.ndarray
    matched: np.ndarray


@dataclass(frozen=True)
class Overlap:
    """How well two aligned images agree where both are.

    Attributes
    ----------
    windows : int
        Places at which one of them shows something.
    explained : float
        Share of these places at which the two look alike, 0 to 1.
    middle : float or None
        The same of the places near the middle of both, where no fill can lie; None where there are
        none.
    levels : float
        Median difference in grey levels, 0 to 255, after a fit of tone.
    area : float
        Share of the smaller image, 0 to 1, that the overlap takes.
    """

    windows: int
    explained: float
    middle: float | None
    levels: float
    area: float


def view(item: Item) -> View | None:
    """Return what is compared of an image; None where it cannot be read."""
    import cv2

    try:
        pixels = decoding.thumbnail(item.source, SIDE)
    except ImageError:
        return None
    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    inside = _inside(grey)
    longer = max(grey.shape)
    if longer < LEAST_SIDE:
        factor = LEAST_SIDE / longer
        grey = cv2.resize(grey, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        inside = cv2.resize(inside, grey.shape[::-1], interpolation=cv2.INTER_NEAREST)
    # Not at the very edge of fill, which is a contour of its own.
    mask = cv2.erode(inside, np.ones((9, 9), np.uint8))
    sift = cv2.SIFT.create(nfeatures=POINTS, contrastThreshold=_CONTRAST)
    found, descriptors = sift.detectAndCompute(grey, mask)
    if not found:
        descriptors = np.empty((0, 128), np.float32)
    points = np.array([one.pt for one in found], np.float32).reshape(-1, 2)
    # Whole numbers up to 255, which OpenCV gives as floats.
    return View(grey, inside, points[:POINTS], descriptors[:POINTS].astype(np.uint8))


def _inside(grey: np.ndarray) -> np.ndarray:
    """Return 1 where there is an image, 0 in flat areas of one tone that reach its edge.

    Of the pixels as they came: what is enlarged looks flat.
    """
    import cv2

    small = np.ones((5, 5), np.uint8)
    flat = (cv2.dilate(grey, small) - cv2.erode(grey, small)) <= _FILL_LEVELS
    _, areas, measures, _ = cv2.connectedComponentsWithStats(flat.astype(np.uint8))
    edge = np.unique(np.concatenate([areas[0], areas[-1], areas[:, 0], areas[:, -1]]))
    large = [n for n in edge if n and measures[n, cv2.CC_STAT_AREA] >= 0.003 * grey.size]
    fill = [n for n in large if np.ptp(np.percentile(grey[areas == n], (2, 98))) <= _FILL_LEVELS]
    covered = np.isin(areas, fill).astype(np.uint8)
    return np.asarray(1 - cv2.dilate(covered, small), np.uint8)


# SIFT describes 4 x 4 places by 8 directions each; seen in a mirror, across the feature's own
# direction, the places' lines change order, and directions turn the other way.
_MIRRORED = np.arange(128).reshape(4, 4, 8)[::-1][:, :, (-np.arange(8)) % 8].ravel()


def align(first: View, second: View) -> Alignment | None:
    """Return the affine map on which the most local features agree, mirrored or not."""
    if first.plain or second.plain:
        return None
    best: Alignment | None = None
    ours = _root_sift(first.descriptors)
    width = second.grey.shape[1]
    for mirrored in (False, True):
        theirs = _root_sift(second.descriptors[:, _MIRRORED] if mirrored else second.descriptors)
        points = second.points * [-1, 1] + [width - 1, 0] if mirrored else second.points
        found = _agreeing(first.points, ours, points.astype(np.float32), theirs)
        if found is None or (best is not None and found.points <= best.points):
            continue
        affine, matched = found.affine, found.matched
        if mirrored:
            affine = affine @ np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]])
            matched = matched * [1, 1, -1, 1] + [0, 0, width - 1, 0]
        best = Alignment(found.points, affine, matched)
    return best


def _root_sift(descriptors: np.ndarray) -> np.ndarray:
    """Return square roots, of length 1 (Arandjelovic and Zisserman, 2012)."""
    wide = descriptors.astype(np.float32)
    return np.sqrt(wide / np.maximum(wide.sum(axis=1, keepdims=True), 1))


def _agreeing(
    ours: np.ndarray, first: np.ndarray, theirs: np.ndarray, second: np.ndarray
) -> Alignment | None:
    import cv2

    like = first @ second.T
    best = like.argmax(axis=1)
    lines = np.arange(len(like))
    highest = like[lines, best]
    like[lines, best] = -1
    # Squared distances of unit vectors are 2 - 2 cos.
    distinct = 1 - highest < _RATIO**2 * (1 - like.max(axis=1))
    chosen = np.flatnonzero(distinct)
    # One partner each: the nearest.
    chosen = chosen[np.argsort(-highest[chosen], kind="stable")]
    chosen = chosen[np.unique(best[chosen], return_index=True)[1]]
    if len(chosen) < LEAST_AGREEING:
        return None
    affine, agree = cv2.estimateAffine2D(
        np.ascontiguousarray(theirs[best[chosen]]),
        np.ascontiguousarray(ours[chosen]),
        method=cv2.RANSAC,
        ransacReprojThreshold=_PIXELS_OFF,
        maxIters=2000,
        confidence=0.995,
    )
    if affine is None or not np.isfinite(affine).all():
        return None
    # Many features at one place are one.
    chosen = chosen[agree.ravel() > 0]
    places = np.unique(np.round(ours[chosen] / 3), axis=0)
    if len(places) < LEAST_AGREEING or not plausible(affine):
        return None
    return Alignment(len(places), affine, np.hstack([ours[chosen], theirs[best[chosen]]]))


def plausible(affine: np.ndarray) -> bool:
    """Return whether an affine map may be that of a copy."""
    large, small = np.linalg.svd(affine[:, :2], compute_uv=False)
    return bool(small > 1 / _LARGEST and large < _LARGEST and large < _MOST_SQUEEZED * small)


def overlap(first: View, second: View, affine: np.ndarray) -> Overlap | None:
    """Return how well the images agree under a map of `Alignment`; None where they do not meet."""
    import cv2

    scale = float(np.sqrt(abs(np.linalg.det(affine[:, :2]))))
    if scale > 1:
        # The larger one is made smaller: nothing need be invented.
        first, second = second, first
        affine = cv2.invertAffineTransform(affine)
        scale = 1 / scale
    height, width = first.grey.shape
    blurred = cv2.GaussianBlur(second.grey, (0, 0), max(0.5, 0.6 / scale))
    size = (width, height)
    theirs = cv2.warpAffine(blurred, affine, size, flags=cv2.INTER_LINEAR)
    there = cv2.warpAffine(second.inside, affine, size, flags=cv2.INTER_NEAREST)
    both = cv2.erode(first.inside & there, np.ones((3, 3), np.uint8))
    smaller = min(int(first.inside.sum()), int(second.inside.sum()) * scale**2)
    area = float(both.sum()) / max(1.0, smaller)
    if both.sum() < 4 * _WINDOW**2:
        return None
    mask = both.astype(np.float32)
    a = cv2.GaussianBlur(first.grey, (0, 0), 1.0).astype(np.float32)
    b = cv2.GaussianBlur(theirs, (0, 0), 0.8).astype(np.float32)
    b, off = _toned(a, b, both > 0)
    levels = float(np.median(off))

    def mean(values: np.ndarray) -> Any:
        return cv2.boxFilter(values * mask, -1, (_WINDOW, _WINDOW), normalize=True)

    share = np.maximum(mean(np.ones_like(mask)), 1e-6)
    mean_a, mean_b = mean(a) / share, mean(b) / share
    var_a = np.maximum(mean(a * a) / share - mean_a**2, 0)
    var_b = np.maximum(mean(b * b) / share - mean_b**2, 0)
    alike = (mean(a * b) / share - mean_a * mean_b) / np.sqrt(np.maximum(var_a * var_b, 1e-3))
    shown = (share > 0.6) & (np.maximum(var_a, var_b) > _LEVELS**2) & (both > 0)
    shown = shown[::4, ::4]
    explained = (alike > 0.75)[::4, ::4]
    middle = shown & (_middle(first, second, affine)[::4, ::4])
    if not shown.any():
        return Overlap(0, 0.0, None, levels, area)
    return Overlap(
        int(shown.sum()),
        float(explained[shown].mean()),
        float(explained[middle].mean()) if middle.any() else None,
        levels,
        area,
    )


def _toned(a: np.ndarray, b: np.ndarray, both: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return b in the tones of a, by a curve of degree 2, and the differences that are left."""
    step = max(1, int(both.sum()) // 3000)
    x, y = b[both][::step], a[both][::step]
    use = (x > 3) & (x < 252) & (y > 3) & (y < 252)
    if use.sum() < 50 or np.ptp(x[use]) < 1:
        return b, np.abs(y - x)
    x, y = x[use], y[use]
    weight = np.ones_like(x)
    design = np.stack([np.ones_like(x), x / 255, (x / 255) ** 2], axis=1)
    for _ in range(4):
        weighed = design * weight[:, None]
        # A little more on the diagonal: of one tone alone the curve is not determined.
        curve = np.linalg.solve(weighed.T @ weighed + 1e-6 * np.eye(3), weighed.T @ (y * weight))
        off = np.abs(y - design @ curve)
        weight = 1 / np.sqrt(1 + (off / max(1.0, float(np.median(off)))) ** 2)
    return curve[0] + curve[1] * b / 255 + curve[2] * (b / 255) ** 2, off


def _middle(first: View, second: View, affine: np.ndarray) -> Any:
    """Return where the middles of both images lie: turned about it, they have no fill there."""
    import cv2

    height, width = first.grey.shape
    discs = []
    for view_ in (first, second):
        disc = np.zeros_like(view_.grey)
        rows, columns = disc.shape
        radius = int(0.42 * min(rows, columns))
        discs.append(cv2.circle(disc, (columns // 2, rows // 2), radius, 1, -1))
    theirs = cv2.warpAffine(discs[1], affine, (width, height), flags=cv2.INTER_NEAREST)
    return (discs[0] > 0) & (theirs > 0)


def grade(aligned: Alignment, seen: Overlap | None) -> Grade | None:
    """Return how two aligned images are the same; None where they are different ones."""
    if seen is None or seen.windows < _LEAST_WINDOWS or seen.area < _LEAST_AREA:
        return None
    middle = seen.explained if seen.middle is None else seen.middle
    if middle >= _MIDDLE and seen.explained >= _ALL and seen.levels <= _MOST_LEVELS:
        return Grade.PHOTOGRAPH
    if any(aligned.points >= n and seen.explained >= share for n, share in _SCENES):
        return Grade.SCENE
    return None


def compare(first: View, second: View) -> tuple[Grade, Alignment, Overlap] | None:
    """Return how two images are the same, with what shows it; None where they are different."""
    aligned = align(first, second)
    if aligned is None:
        return None
    seen = overlap(first, second, aligned.affine)
    found = grade(aligned, seen)
    return None if seen is None or found is None else (found, aligned, seen)
