"""What a comparison has finished, kept in a folder so that a repeated run goes on from there."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import CacheError
from featx.evaluation.protocol.trials import HeldOut, Setting, Trial
from featx.evaluation.results import History, Kind, Predictions, Result
from featx.storage import atomic, checksummed, reading

logger = logging.getLogger(__name__)

FOLDER = "progress"
"""Its name in the folder of the report."""

FORMAT = 1
_SUFFIX = ".featx-part"


class Progress:
    """Finished methods and choices, a sealed file each, named by what decides it (`identity`).

    A method that failed is not kept: it is tried again. Files that are damaged or not as expected
    are left aside, and what they held is computed again.

    Parameters
    ----------
    folder : Path or None
        None keeps nothing.

    Attributes
    ----------
    taken : int
        Methods and choices that were taken from the folder.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.taken = 0

    @property
    def empty(self) -> bool:
        """Whether nothing is kept."""
        return self.folder is None or not any(self.folder.glob(f"*{_SUFFIX}"))

    def has(self, key: str | None) -> bool:
        """Return whether something is kept under a key."""
        return self.folder is not None and key is not None and self._path(key).is_file()

    def trial(self, key: str | None, method: str, seed: int, asked: Setting) -> Trial | None:
        """Return a finished trial, None where there is none; its head is not kept."""
        found = self._read(key)
        if found is None:
            return None
        arrays, about = found
        try:
            trial = _trial(arrays, about, method, seed, asked)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            logger.warning("what is kept of %s is not as expected: %s", method, error)
            return None
        self.taken += 1
        return trial

    def keep_trial(self, key: str | None, trial: Trial, classes: tuple[str, ...]) -> None:
        """Keep a finished trial; one that failed is not."""
        found = trial.predictions
        if found is None:
            return
        place = {name: number for number, name in enumerate(classes)}
        arrays = {
            name: np.asarray([place[str(one)] for one in labels], np.int32)
            for name, labels in (("y_true", found.y_true), ("y_pred", found.y_pred))
        }
        if found.proba is not None:
            arrays["proba"] = found.proba
        curves = [{"fold": one.fold, "names": list(one.curves)} for one in trial.histories]
        for number, history in enumerate(trial.histories):
            for name, values in history.curves.items():  # a loss may be no number: not for JSON
                arrays[f"{number} {name}"] = np.asarray(values, np.float64)
        about = {
            "kind": found.kind,
            "results": [asdict(one) for one in trial.results],
            "curves": curves,
            "remarks": trial.remarks,
        }
        self._write(key, arrays, about)

    def held_out(self, key: str | None) -> HeldOut | None:
        """Return a head's finished predictions for held-out images, None where there are none."""
        found = self._read(key)
        if found is None:
            return None
        arrays, about = found
        try:
            proba = arrays.get("proba")
            held = HeldOut(
                arrays["positions"], arrays["right"], proba, seconds=float(about["seconds"])
            )
            if not len(held.positions) == len(held.right) or (
                proba is not None and len(proba) != len(held.right)
            ):
                raise ValueError("arrays of different lengths")
        except (KeyError, TypeError, ValueError) as error:
            logger.warning("what is kept of a choice is not as expected: %s", error)
            return None
        self.taken += 1
        return held

    def keep_held_out(self, key: str | None, held: HeldOut | None) -> None:
        """Keep a head's predictions for held-out images; None, of one that failed, is not kept."""
        if held is None:
            return
        arrays = {"positions": held.positions, "right": held.right}
        if held.proba is not None:
            arrays["proba"] = held.proba
        self._write(key, arrays, {"seconds": held.seconds})

    def remove(self) -> None:
        """Remove the folder and what was kept in it; files of others in it stay, and so does it."""
        if self.folder is None:
            return
        with suppress(OSError):
            for path in self.folder.glob(f"*{_SUFFIX}"):
                path.unlink()
            self.folder.rmdir()

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{key[:32]}{_SUFFIX}"

    def _read(self, key: str | None) -> tuple[dict[str, np.ndarray], Any] | None:
        if self.folder is None or key is None:
            return None
        path = self._path(key)
        try:
            content = reading.read(path)
            arrays, about = checksummed.unpack(content, path.name)
        except FileNotFoundError:
            return None
        except (OSError, CacheError) as error:
            logger.warning("%s is left aside, and what it held is computed again: %s", path, error)
            return None
        if not isinstance(about, dict) or about.get("format") != FORMAT or about.get("key") != key:
            return None
        return arrays, about

    def _write(
        self, key: str | None, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]
    ) -> None:
        if self.folder is None or key is None:
            return
        content = checksummed.pack(arrays, {**about, "format": FORMAT, "key": key})
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            atomic.replace(self._path(key), content)
        except OSError as error:  # a full disk must not end what it only serves to protect
            logger.warning("%s cannot be written, so nothing is kept: %s", self.folder, error)


def _trial(
    arrays: Mapping[str, np.ndarray], about: Any, method: str, seed: int, asked: Setting
) -> Trial:
    """Return a trial from what is kept of it, as a part of this run.

    Raises
    ------
    KeyError, TypeError, ValueError, IndexError
        It is not of these images and classes.
    """
    names = np.asarray(asked.classes, dtype=object)
    codes, n = (arrays["y_true"], arrays["y_pred"]), len(asked.ids)
    proba = arrays.get("proba")
    if any(one.shape != (n,) or one.min(initial=0) < 0 for one in codes):
        raise ValueError(f"not of {n} images")
    if proba is not None and proba.shape != (n, len(names)):
        raise ValueError(f"probabilities of shape {proba.shape}")
    extraction = asked.extraction
    kind: Kind = "baseline" if about["kind"] == "baseline" else "head"
    # Seconds are those of the run that measured them; the extraction is this run's own.
    results = tuple(
        replace(
            Result(**one),
            dataset=asked.dataset,
            backbone=extraction.backbone,
            versions=asked.versions,
            extract_seconds=extraction.seconds if kind == "head" else 0.0,
            images_computed=extraction.computed if kind == "head" else 0,
            images_cached=extraction.cached if kind == "head" else 0,
        )
        for one in about["results"]
    )
    histories = tuple(
        History(
            extraction.backbone,
            seed,
            one["fold"],
            {name: tuple(arrays[f"{number} {name}"].tolist()) for name in one["names"]},
        )
        for number, one in enumerate(about["curves"])
    )
    predictions = Predictions(
        extraction.backbone, method, kind, seed, asked.ids, names[codes[0]], names[codes[1]], proba
    )
    return Trial(
        extraction.backbone,
        method,
        seed,
        results,
        predictions,
        histories,
        None,
        tuple(map(str, about["remarks"])),
    )
