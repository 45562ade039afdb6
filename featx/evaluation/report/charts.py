"""Positions of the lines, ticks and bars of the report's drawings; the templates draw them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from featx import formatting

WIDTH, HEIGHT = 360, 244
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 26, 38


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: its position in the drawing, and its figure."""

    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """One line: its name, its look (a class of the style sheet), its points and their radii.

    Attributes
    ----------
    tips : tuple of str
        Shown when a point is pointed at; empty where the axes are enough.
    band : tuple of points
        The outline of the area between the line's bounds; empty without.
    whiskers : tuple of (x, top, bottom)
        An upright line through each point, from bound to bound; empty without.
    """

    name: str
    look: str
    points: tuple[tuple[float, float], ...]
    sizes: tuple[float, ...]
    tips: tuple[str, ...] = ()
    band: tuple[tuple[float, float], ...] = ()
    whiskers: tuple[tuple[float, float, float], ...] = ()

    @property
    def path(self) -> str:
        """The points as SVG's polyline wants them."""
        return _path(self.points)

    @property
    def outline(self) -> str:
        """The band as SVG's polygon wants it."""
        return _path(self.band)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


@dataclass(frozen=True)
class Chart:
    """A line chart in a drawing of WIDTH by HEIGHT units."""

    title: str
    description: str
    x_title: str
    y_title: str
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    diagonal: bool = False
    mark: tuple[float, float] | None = None


@dataclass(frozen=True)
class Axes:
    """The ranges of a chart's two axes; `x_step` is 1 where only whole numbers have a meaning."""

    x: tuple[float, float]
    y: tuple[float, float]
    x_step: float = 0.0

    def position(self, x: float, y: float) -> tuple[float, float]:
        """Return the position of a point of the data in the drawing."""
        return (
            LEFT + (WIDTH - LEFT - RIGHT) * _share(x, self.x),
            HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * _share(y, self.y),
        )


def _share(value: float, span: tuple[float, float]) -> float:
    return (value - span[0]) / (span[1] - span[0])


def ticks(low: float, high: float, most: int = 5, least: float = 0.0) -> list[float]:
    """Return round figures within low and high, at most `most` steps of `least` or more.

    >>> ticks(0, 8)
    [0.0, 2.0, 4.0, 6.0, 8.0]
    """
    # A little under one more step may be left over at the end.
    rough = max((high - low) / (most + 0.99), least)
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _figures(values: Sequence[float]) -> list[str]:
    """Return the figures of one axis, all with the decimals that its steps need."""
    step = min((b - a for a, b in zip(values, values[1:], strict=False)), default=1.0)
    digits = next((n for n in range(6) if abs(step * 10**n - round(step * 10**n)) < 1e-6), 6)
    return [f"{value:.{digits}f}" for value in values]


def chart(
    words: tuple[str, str, str, str],
    series: Mapping[tuple[str, str], Sequence[tuple[float, float]]],
    axes: Axes,
    *,
    diagonal: bool = False,
    mark: tuple[float, float] | None = None,
    weights: Mapping[str, Sequence[float]] | None = None,
    bounds: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> Chart:
    """Return a line chart.

    Parameters
    ----------
    words : tuple of four str
        Title, a description in one sentence (for those who cannot see it), titles of the x and
        the y axis.
    series : mapping of (name, look) to points
    axes : Axes
    diagonal : bool
        Draw the line y = x, which on a reliability curve is honesty.
    mark : tuple of two floats
        A point of the data to ring.
    weights : mapping of str to sequence of float
        Name of a line -> what the area of each of its dots means; dots are of one size without.
    bounds : mapping of str to sequence of (low, high)
        Name of a line -> the interval of each of its points, drawn as an upright line.
    """
    sizes = {
        name: tuple(2 + 6 * math.sqrt(one / max(line)) for one in line)
        for name, line in (weights or {}).items()
    }
    xs, ys = ticks(*axes.x, least=axes.x_step), ticks(*axes.y)
    return Chart(
        *words,
        lines=tuple(
            Line(
                name,
                look,
                tuple(axes.position(x, y) for x, y in points),
                sizes.get(name) or (3.0,) * len(points),
                whiskers=tuple(
                    (axes.position(x, low)[0], axes.position(x, high)[1], axes.position(x, low)[1])
                    for (x, _), (low, high) in zip(
                        points, (bounds or {}).get(name, ()), strict=False
                    )
                ),
            )
            for (name, look), points in series.items()
        ),
        x_ticks=tuple(
            Tick(axes.position(x, axes.y[0])[0], text)
            for x, text in zip(xs, _figures(xs), strict=True)
        ),
        y_ticks=tuple(
            Tick(axes.position(axes.x[0], y)[1], text)
            for y, text in zip(ys, _figures(ys), strict=True)
        ),
        diagonal=diagonal,
        mark=None if mark is None else axes.position(*mark),
    )


def curves(
    title: str, series: Mapping[tuple[str, str], Sequence[float | None]], floor: float
) -> Chart:
    """Return a chart of one value per epoch, from epoch 1 on; a value that is None is left out."""
    values = [value for line in series.values() for value in line if value is not None]
    last = max(2, *(len(line) for line in series.values()))
    low, high = min([floor, *values]), max([floor, *values])
    high = high if high > low else low + 1.0
    ends = ", ".join(
        f"{name} from {formatting.number(line[0])} to {formatting.number(line[-1])}"
        for (name, _), line in series.items()
    )
    return chart(
        (title, f"{title} over {last} epochs: {ends}.", "epoch", title),
        {
            key: [(n, value) for n, value in enumerate(line, start=1) if value is not None]
            for key, line in series.items()
        },
        Axes((1, last), (low, low + (high - low) * 1.05), x_step=1.0),
    )


def growth(
    words: tuple[str, str, str, str],
    series: Mapping[tuple[str, str], Sequence[tuple[float, float, float, float, str]]],
) -> Chart:
    """Return a chart of shares over a count that grows by factors, with one band per line.

    Parameters
    ----------
    series : mapping of (name, look) to points
        A point: count, share, the bounds of its interval, and its text when pointed at.
    """
    every = [point for line in series.values() for point in line]
    first, last = min(point[0] for point in every), max(point[0] for point in every)
    bounds = span([(point[2], point[3]) for point in every])
    wide = math.log10(last / first) if last > first else 1.0
    axes = Axes((0.0, wide), bounds)

    def at(count: float, share: float) -> tuple[float, float]:
        return axes.position(math.log10(count / first), share)

    lines = tuple(
        Line(
            name,
            look,
            tuple(at(count, share) for count, share, *_ in line),
            (3.5,) * len(line),
            tuple(tip for *_, tip in line),
            tuple(at(count, low) for count, _, low, _, _ in line)
            + tuple(at(count, high) for count, _, _, high, _ in reversed(line)),
        )
        for (name, look), line in series.items()
    )
    counts = sorted({point[0] for point in every})
    marks: list[Tick] = []
    for tick in (Tick(at(count, bounds[0])[0], f"{count:g}") for count in reversed(counts)):
        # From the right, since the last figure must be there; those that would touch are left out.
        if not marks or marks[-1].at - tick.at > 7 * (len(tick.text) + len(marks[-1].text)) / 2 + 6:
            marks.append(tick)
    levels = ticks(*bounds)
    shares = _figures([100 * level for level in levels])
    return Chart(
        *words,
        lines=lines,
        x_ticks=tuple(reversed(marks)),
        y_ticks=tuple(
            Tick(axes.position(0, level)[1], f"{text} %")
            for level, text in zip(levels, shares, strict=True)
        ),
    )


def span(intervals: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the range of shares to draw, in whole steps of 5 points, wide enough for all.

    >>> span([(0.804, 0.892)])
    (0.8, 0.9)
    """
    low = math.floor(min(low for low, _ in intervals) * 20 + 1e-9) / 20
    high = math.ceil(max(high for _, high in intervals) * 20 - 1e-9) / 20
    return (low, high) if high - low >= 0.1 else (max(0.0, high - 0.1), max(0.1, high))


@dataclass(frozen=True)
class Forest:
    """The scale under intervals that are drawn one below the other; ticks in percent of it."""

    low: float
    high: float
    ticks: list[Tick]


def forest(intervals: Sequence[tuple[float, float]]) -> Forest:
    """Return the scale of a forest plot of shares.

    >>> [f"{tick.at:.0f} {tick.text}" for tick in forest([(0.804, 0.892)]).ticks]
    ['0 80 %', '50 85 %', '100 90 %']
    """
    low, high = span(intervals)
    # In whole percents: a step of 2.5 points would be rounded.
    found = ticks(low, high, 4, 0.05)
    return Forest(
        low,
        high,
        [Tick(100 * (at - low) / (high - low), formatting.percent(at, 0)) for at in found],
    )
