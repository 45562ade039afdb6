"""The drawings of a report in a notebook, with matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from featx.errors import FeatxError, RuntimeUnavailableError
from featx.evaluation.report import evidence_view, view, wording
from featx.formatting import did_you_mean, label, number, percent, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Data = Mapping[str, Any]


class Plots:
    """The drawings of a report, each on axes of matplotlib's; pip install 'featx[plot]'.

    Parameters
    ----------
    document : mapping
        Of the report: `Report.to_dict()`.
    """

    def __init__(self, document: Data) -> None:
        self._document = document

    def __repr__(self) -> str:
        return "<the plots of a featx.Report: confusion, calibration, learning_curve, map>"

    def confusion(self, method: str | None = None, *, ax: Axes | None = None) -> Axes:
        """Draw which classes were taken for which: counts, coloured by share of the true class.

        Parameters
        ----------
        method : str, optional
            Such as "logistic"; that of the verdict unless given.
        ax : matplotlib.axes.Axes, optional
            New ones unless given.

        Raises
        ------
        FeatxError
            There is no such method.
        RuntimeUnavailableError
            matplotlib is not installed.
        """
        one = self._method(method)
        counts = np.asarray(one["confusion"])
        shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
        names = [_text(name) for name in self._document["images"]["classes"]]
        ax = _axes(ax)
        ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        ax.set_xticks(range(len(names)), names, rotation=45, ha="right")
        ax.set_yticks(range(len(names)), names)
        ax.set(xlabel="given class", ylabel="true class", title=self._title(one))
        if len(names) <= view.WIDEST_CONFUSION:
            for (row, column), count in np.ndenumerate(counts):
                colour = "white" if shares[row, column] > 0.5 else "black"
                ax.text(column, row, str(count), ha="center", va="center", color=colour)
        return ax

    def calibration(self, method: str | None = None, *, ax: Axes | None = None) -> Axes:
        """Draw the share that was right over the claimed probability, with 95 % intervals.

        Raises
        ------
        FeatxError
            There is no such method, or it gives no probabilities.
        RuntimeUnavailableError
            matplotlib is not installed.
        """
        one = self._method(method)
        if one["calibration"] is None:
            raise FeatxError(f"{one['method']} gives no probabilities: there is none to judge.")
        bins = view.merged(one["calibration"])
        right = np.array([each["accuracy"] for each in bins])
        ends = np.array([[each["from"] for each in bins], [each["to"] for each in bins]])
        ax = _axes(ax)
        ax.plot([0, 1], [0, 1], "--", color="grey", linewidth=1)
        ax.errorbar([each["confidence"] for each in bins], right, np.abs(ends - right), marker="o")
        ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="claimed probability", ylabel="share right")
        ax.set_title(f"{self._title(one)}\ncalibration error {number(one['ece'])}")
        return ax

    def learning_curve(self, *, ax: Axes | None = None) -> Axes:
        """Draw accuracy over training images per class, with 95 % intervals.

        Raises
        ------
        FeatxError
            The report has no learning curve.
        RuntimeUnavailableError
            matplotlib is not installed.
        """
        curves = (self._document["evidence"] or {}).get("learning") or ()
        if not curves:
            raise FeatxError("this report has no learning curve: benchmark(..., evidence=True).")
        ax = _axes(ax)
        for curve in curves:
            points: Sequence[Data] = curve["points"]
            x = [point["per_class"] for point in points]
            (line,) = ax.plot(
                x, [point["accuracy"] for point in points], marker="o", label=label(curve["method"])
            )
            low, high = ([point["interval"][end] for point in points] for end in ("low", "high"))
            ax.fill_between(x, low, high, alpha=0.15, color=line.get_color(), linewidth=0)
        ax.set_xscale("log")
        ax.set(xlabel="training images per class", ylabel="accuracy")
        ax.legend()
        return ax

    def map(self, *, ax: Axes | None = None) -> Axes:
        """Draw the tested images by their embeddings, coloured by label, wrong predictions ringed.

        Raises
        ------
        FeatxError
            The report has no map.
        RuntimeUnavailableError
            matplotlib is not installed.
        """
        found = (self._document["evidence"] or {}).get("map")
        if not found:
            raise FeatxError("this report has no map: benchmark(..., evidence=True).")
        answers = evidence_view.answers(self._document, wording.subject(self._document))
        x, y = np.asarray(found["x"]), np.asarray(found["y"])
        positions = np.asarray(found["positions"])
        true = np.asarray(self._document["tested"]["y_true"])[positions]
        wrong = true != np.asarray(answers["y_pred"])[positions]
        ax = _axes(ax)
        for number_, name in enumerate(self._document["images"]["classes"]):
            of = true == number_
            ax.scatter(x[of], y[of], s=14, label=_text(name))
        ax.scatter(
            x[wrong],
            y[wrong],
            s=44,
            facecolors="none",
            edgecolors="black",
            label="wrong prediction",
        )
        ax.set(xticks=[], yticks=[], title=f"{found['how']} of {found['backbone']}'s embeddings")
        ax.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
        return ax

    def _method(self, name: str | None) -> Data:
        subject = wording.subject(self._document)
        if name is None:
            return subject
        found = [one for one in self._document["methods"] if one["method"] == name]
        if not found:
            known = sorted({one["method"] for one in self._document["methods"]})
            raise FeatxError(
                f"{name!r} is not in this report; expected one of {', '.join(known)}."
                + did_you_mean(name, known)
            )
        same = [one for one in found if one["backbone"] == subject["backbone"]]
        return (same or found)[0]

    def _title(self, one: Data) -> str:
        return f"{label(one['method'])}: {percent(one['accuracy'])} of {one['n_test']} images"


def _text(name: str) -> str:
    """Return a name that matplotlib draws as it is, where "$" would begin a formula."""
    return printable(name).replace("$", r"\$")


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"{error.name} is not installed: pip install 'featx[plot]'."
        ) from error
    return pyplot.figure(layout="constrained").add_subplot()
