"""Heads as plain data and arrays, and back: the heads that featx ships."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.calibration import _CalibratedClassifier, _TemperatureScaling
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import LabelBinarizer, StandardScaler

from featx.classifier.file import names, recipes
from featx.dense import DEFAULT_RECIPE, DenseClassifier
from featx.errors import HeadError, ModelFormatError
from featx.heads import (
    CalibratedHead,
    LogisticHead,
    MLPHead,
    NearestHead,
    PrimalSVC,
    RidgeHead,
    ScaledHead,
    StratifiedFolds,
)
from featx.heads.boosting import checked_model, ubj
from featx.heads.boosting.xgboost_head import XGBoostHead
from featx.heads.kinds import kind_of
from featx.heads.linear.rows import Sums
from featx.heads.ridge_head import Kept


def state_of(head: Any) -> HeadState | None:
    """Return a fitted head as data, or None for a head that is not one of featx's own."""
    kind = kind_of(head)
    return None if kind is None else _WRITERS[kind](head)


def head_of(state: HeadState, shape: Shape) -> Any:
    """Return the fitted head of a state.

    Raises
    ------
    ModelFormatError
        A part is missing, of another shape or type, or does not fit the classes.
    """
    kind = state.metadata.get("kind")
    if not isinstance(kind, str) or kind not in _READERS:
        raise ModelFormatError(f"no head of the kind {kind!r:.60}. Known: {', '.join(_READERS)}.")
    try:
        return _READERS[kind](state, shape)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, ModelFormatError):
            raise
        raise ModelFormatError(
            f"the {kind} head is damaged: {type(error).__name__} {error}."
        ) from error


def _logistic_state(head: LogisticHead) -> HeadState:
    metadata = {"kind": "logistic", "parameters": parameters(head), "C": float(head.C_)}
    metadata |= {"iterations": head.n_iter_, "converged": head.converged_}
    metadata["losses"] = [[C, loss] for C, loss in head.losses_.items()]
    metadata["as_good"] = list(head.as_good_)
    return HeadState(metadata, {"coef": head.coef_, "intercept": head.intercept_})


def _logistic(state: HeadState, shape: Shape) -> LogisticHead:
    head = made(LogisticHead, state.metadata["parameters"])
    outputs = _outputs(shape)
    head.coef_ = need(state, "coef", outputs, shape.dim)
    head.intercept_ = need(state, "intercept", outputs)
    head.C_ = float(number(state, "C"))
    head.losses_ = {float(C): float(loss) for C, loss in state.metadata["losses"]}
    # Absent from files of version 0.1.
    head.as_good_ = tuple(float(C) for C in state.metadata.get("as_good", ()))
    head.n_iter_, head.converged_ = (
        int(number(state, "iterations")),
        bool(state.metadata["converged"]),
    )
    return _fitted(head, shape)


def _ridge_state(head: RidgeHead) -> HeadState:
    metadata: dict[str, Any] = {"kind": "ridge", "parameters": parameters(head)}
    metadata |= {"shrinkage": head.shrinkage_, "temperature": head.temperature_}
    metadata["losses"] = [[s, loss] for s, loss in head.losses_.items()]
    arrays: dict[str, np.ndarray] = {"coef": head.coef_, "intercept": head.intercept_}
    if head.arriving_ and head.sums_ is not None and head.kept_ is not None:
        # What partial_fit goes on from.
        sums, kept = head.sums_, head.kept_
        upper = sums.squares[np.triu_indices(len(sums.origin))]
        arrays |= {"origin": sums.origin, "squares": upper, "sums": sums.classes}
        arrays |= {"counts": sums.counts, "kept": kept.X, "kept_weight": kept.weight}
        arrays |= {"kept_codes": kept.codes.astype(np.int64), "kept_order": kept.order}
    return HeadState(metadata, arrays)


def _ridge(state: HeadState, shape: Shape) -> RidgeHead:
    head = made(RidgeHead, state.metadata["parameters"])
    outputs, k, d = _outputs(shape), len(shape.classes), shape.dim
    head.coef_ = need(state, "coef", outputs, d)
    head.intercept_ = need(state, "intercept", outputs)
    head.shrinkage_ = float(number(state, "shrinkage"))
    head.temperature_ = float(number(state, "temperature"))
    head.losses_ = {float(s): float(loss) for s, loss in state.metadata["losses"]}
    head.sums_, head.kept_ = None, None
    head.arriving_ = "origin" in state.arrays
    if head.arriving_:
        sums = Sums(need(state, "origin", d).astype(np.float64), k)
        sums.squares[np.triu_indices(d)] = need(state, "squares", d * (d + 1) // 2)
        sums.classes += need(state, "sums", k, d)
        sums.counts += need(state, "counts", k)
        m = len(state.arrays.get("kept_codes", ()))
        codes = need(state, "kept_codes", m, kinds="i")
        if m and not (codes.min() >= 0 and codes.max() < k):
            raise ModelFormatError("kept embeddings of a class that does not exist.")
        weight, order = need(state, "kept_weight", m), need(state, "kept_order", m, kinds="u")
        head.sums_ = sums
        head.kept_ = Kept(need(state, "kept", m, d), codes, weight, order.astype(np.uint64))
    return _fitted(head, shape)


def _outputs(shape: Shape) -> int:
    return 1 if len(shape.classes) == 2 else len(shape.classes)


def _fitted(head: Any, shape: Shape) -> Any:
    head.classes_, head.n_features_in_ = shape.classes, shape.dim
    return head


def _scaler_state(scaler: StandardScaler) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    seen = np.atleast_1d(np.asarray(scaler.n_samples_seen_, np.int64))
    arrays = {"scale": scaler.scale_, "mean": scaler.mean_, "var": scaler.var_, "seen": seen}
    # A scaler that leaves out a step has no numbers for it.
    found = {f"scaler_{name}": value for name, value in arrays.items() if value is not None}
    steps = {name: bool(getattr(scaler, name)) for name in ("with_mean", "with_std")}
    return {} if all(steps.values()) else {"scaler": steps}, found


def _scaler(state: HeadState, shape: Shape) -> StandardScaler:
    scaler = StandardScaler(**made(dict, state.metadata.get("scaler", {}), "StandardScaler"))
    has = {"scale": scaler.with_std, "var": scaler.with_std}
    has["mean"] = scaler.with_std or scaler.with_mean
    for name, there in has.items():
        value = need(state, f"scaler_{name}", shape.dim) if there else None
        setattr(scaler, f"{name}_", value)
    scaler.n_samples_seen_ = int(need(state, "scaler_seen", 1, kinds="i")[0])
    scaler.n_features_in_ = shape.dim
    return scaler


def _mlp_state(head: Pipeline) -> HeadState:
    net = head[1]
    arrays = {f"coef_{i}": coef for i, coef in enumerate(net.coefs_)}
    arrays |= {f"intercept_{i}": one for i, one in enumerate(net.intercepts_)}
    metadata = {"kind": "mlp", "parameters": parameters(net), "iterations": net.n_iter_}
    metadata |= _scaled_head(head)
    scaled, numbers = _scaler_state(head[0])
    return HeadState(metadata | scaled | {"layers": len(net.coefs_)}, arrays | numbers)


def _mlp(state: HeadState, shape: Shape) -> Pipeline:
    net = made(MLPHead, state.metadata["parameters"])
    hidden = [int(units) for units in net.hidden_layer_sizes]
    widths = [shape.dim, *hidden, _outputs(shape)]
    steps = list(zip(widths[:-1], widths[1:], strict=True))
    net.coefs_ = [need(state, f"coef_{i}", *step) for i, step in enumerate(steps)]
    net.intercepts_ = [need(state, f"intercept_{i}", step[1]) for i, step in enumerate(steps)]
    net.n_layers_, net.n_outputs_ = len(widths), widths[-1]
    net.n_iter_ = int(number(state, "iterations"))
    net.out_activation_ = "logistic" if widths[-1] == 1 else "softmax"
    net._label_binarizer = LabelBinarizer().fit(shape.classes)
    return _pipeline(state, shape, ("mlp", _fitted(net, shape)))


def _scaled_head(head: Pipeline) -> dict[str, Any]:
    """Return what a pipeline itself has beside its steps."""
    weights = getattr(head, "class_weight", None)
    return {} if weights is None else {"class_weight": _plain(weights)}


def _pipeline(state: HeadState, shape: Shape, last: tuple[str, Any]) -> ScaledHead:
    weights = {"class_weight": state.metadata.get("class_weight")}
    given = made(dict, weights, "ScaledHead")
    return ScaledHead([("scale", _scaler(state, shape)), last], **given)


def _svm_state(head: Pipeline) -> HeadState:
    calibrated = head[1].calibrated_classifiers_[0]
    machine = calibrated.estimator
    beta = np.array([calibrated.calibrators[0].beta_], np.float64)
    arrays = {"coef": machine.coef_, "intercept": np.atleast_1d(machine.intercept_)}
    metadata = {
        "kind": "linear_svm",
        "parameters": parameters(head[1].estimator),
        "calibration": parameters(head[1], "estimator", "cv"),
        "folds": plain(StratifiedFolds, vars(head[1].cv)),
        "iterations": int(np.max(machine.n_iter_)),
        **_scaled_head(head),
    }
    scaled, numbers = _scaler_state(head[0])
    return HeadState(metadata | scaled, {**arrays, "beta": beta, **numbers})


def _svm(state: HeadState, shape: Shape) -> Pipeline:
    outputs = _outputs(shape)
    machine = _fitted(made(PrimalSVC, state.metadata["parameters"]), shape)
    machine.coef_ = need(state, "coef", outputs, shape.dim)
    machine.intercept_ = need(state, "intercept", outputs)
    machine.n_iter_ = int(number(state, "iterations"))
    temperature = _TemperatureScaling()
    temperature.beta_ = float(need(state, "beta", 1)[0])
    folds = made(StratifiedFolds, state.metadata["folds"])
    calibration = made(dict, state.metadata["calibration"], "CalibratedHead")
    unfitted = made(PrimalSVC, state.metadata["parameters"])
    head = _fitted(CalibratedHead(unfitted, cv=folds, **calibration), shape)
    if head.method != "temperature" or head.ensemble:
        raise ModelFormatError("a calibration of another kind.")
    head.calibrated_classifiers_ = [
        _CalibratedClassifier(machine, [temperature], classes=shape.classes, method="temperature")
    ]
    return _pipeline(state, shape, ("svm", head))


def _xgboost_state(head: XGBoostHead) -> HeadState:
    raw = bytes(head.model_.get_booster().save_raw("ubj"))
    # What could not be loaded again must not be saved: the check is the same.
    try:
        checked_model.checked(raw, head.n_features_in_, len(head.classes_))
    except ModelFormatError as error:
        raise HeadError(
            f"{type(head).__name__} cannot be saved: what XGBoost grew is not a model "
            f"that featx could load again ({error.__cause__}). Fit it again as "
            "featx.heads.xgboost makes it, or with another version of XGBoost."
        ) from error
    return HeadState({"kind": "xgboost", "parameters": parameters(head)}, blobs={"trees": raw})


def _xgboost(state: HeadState, shape: Shape) -> XGBoostHead:
    import xgboost

    head = _fitted(made(XGBoostHead, state.metadata["parameters"]), shape)
    checked = checked_model.checked(state.blobs["trees"], shape.dim, len(shape.classes))
    head.model_ = xgboost.XGBClassifier(n_jobs=head.n_jobs, device=head.device)
    try:
        head.model_.load_model(bytearray(ubj.encoded(checked)))
    except xgboost.core.XGBoostError as error:
        raise ModelFormatError("XGBoost cannot read the model.") from error
    return head


def _nearest_state(head: NearestHead) -> HeadState:
    arrays = {"embeddings": np.asarray(head._fit_X), "codes": np.asarray(head._y, np.int64)}
    if head.sample_weight_ is not None:
        arrays["weights"] = head.sample_weight_
    return HeadState({"kind": "nearest", "parameters": parameters(head)}, arrays)


def _nearest(state: HeadState, shape: Shape) -> NearestHead:
    head = made(NearestHead, state.metadata["parameters"])
    count = len(state.arrays.get("codes", ()))
    codes = need(state, "codes", count, kinds="i")
    if not np.array_equal(np.unique(codes), np.arange(len(shape.classes))):
        raise ModelFormatError("embeddings of a class that does not exist.")
    # By number: a name for each embedding could take far more memory than the file has bytes.
    KNeighborsClassifier.fit(head, need(state, "embeddings", count, shape.dim), codes)
    head.sample_weight_ = need(state, "weights", count) if "weights" in state.arrays else None
    return _fitted(head, shape)


def _dense_state(head: DenseClassifier) -> HeadState:
    arrays = {f"weight_{i:03d}": weight for i, weight in enumerate(head.weights_)}
    metadata = {"kind": "dense", "recipe": recipes.as_data(head.recipe or DEFAULT_RECIPE)}
    metadata |= {"default": head.recipe is None, "epochs": head.n_epochs_}
    metadata["parameters"] = parameters(head, "recipe")
    return HeadState(metadata | {"history": head.history_}, arrays)


def _dense(state: HeadState, shape: Shape) -> DenseClassifier:
    recipe = recipes.of_data(state.metadata["recipe"])
    weights = [state.arrays[name] for name in sorted(state.arrays)]
    recipes.check_weights(recipe, shape.dim, len(shape.classes), weights)
    recipe_or_none = None if state.metadata["default"] and recipe == DEFAULT_RECIPE else recipe
    head = _fitted(made(DenseClassifier, state.metadata["parameters"]), shape)
    head.recipe = recipe_or_none
    head.weights_ = weights
    head.n_epochs_ = int(number(state, "epochs"))
    history = state.metadata["history"]
    head.history_ = {str(k): [float(v) for v in values] for k, values in history.items()}
    return head


_WRITERS: dict[str, Callable[[Any], HeadState]] = {
    "logistic": _logistic_state,
    "ridge": _ridge_state,
    "mlp": _mlp_state,
    "linear_svm": _svm_state,
    "xgboost": _xgboost_state,
    "nearest": _nearest_state,
    "dense": _dense_state,
}
_READERS: dict[str, Callable[[HeadState, Shape], Any]] = {
    "logistic": _logistic,
    "ridge": _ridge,
    "mlp": _mlp,
    "linear_svm": _svm,
    "xgboost": _xgboost,
    "nearest": _nearest,
    "dense": _dense,
}


@dataclass(frozen=True, eq=False)
class HeadState:
    """A fitted head without anything that could run.

    Attributes
    ----------
    metadata : dict
        Strict JSON: the kind, its parameters, its single numbers.
    arrays : dict of str to ndarray
    blobs : dict of str to bytes
        XGBoost's own format; checked before it is read.
    """

    metadata: dict[str, Any]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)


class Shape(NamedTuple):
    """What a head must fit: the width of an embedding, and the classes it was trained on."""

    dim: int
    classes: np.ndarray


def parameters(estimator: BaseEstimator, *leave: str) -> dict[str, Any]:
    """Return an estimator's parameters as JSON holds them, but some and those that steer a machine.

    Raises
    ------
    HeadError
        One of them is not a number, text or None, or a list of these.
    """
    found = estimator.get_params(deep=False)
    left_out = names.STEERING.union(leave)
    return plain(type(estimator), {k: v for k, v in found.items() if k not in left_out})


def plain(kind: type, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of an object of a kind as JSON holds them, or raise HeadError."""
    found = {k: _plain(v) for k, v in parameters.items()}
    try:
        json.dumps(found, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise HeadError(
            f"{kind.__name__} cannot be saved: one of its parameters is not a "
            f"number, text or None ({error}). Give random_state as a whole number."
        ) from error
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    if isinstance(value, dict):  # weights by label, which may be a number: JSON's keys are text
        return [[_plain(key), _plain(part)] for key, part in value.items()]
    return value.item() if isinstance(value, np.generic) else value


def made(kind: type, given: Any, name: str | None = None) -> Any:
    """Return an object of a kind, made with the parameters that a file gives.

    Parameters
    ----------
    kind : type
    given : dict
        A parameter that is absent has the value that `names.ABSENT` knows, else its default.
    name : str, optional
        The class that the parameters belong to, if not `kind`.

    Raises
    ------
    ModelFormatError
        One of them is not a number, text or None, or a list of these.
    """
    if not isinstance(given, dict):
        raise ModelFormatError("a head without parameters.")
    read = {name: _read(value, name == "class_weight") for name, value in given.items()}
    return kind(**names.given(name or kind.__name__, read))


def _read(value: Any, by_label: bool) -> Any:
    """Return a parameter; a list of pairs becomes a dict where it holds weights by label."""
    if by_label and isinstance(value, list):
        pairs = all(isinstance(pair, list) and len(pair) == 2 for pair in value)
        if pairs and all(
            isinstance(key, int | float | str) and isinstance(part, int | float)
            for key, part in value
        ):
            return dict(value)
        raise ModelFormatError(f"weights that are not pairs: {value!r:.60}.")
    parts = value if isinstance(value, list) else [value]
    if not all(part is None or isinstance(part, int | float | str) for part in parts):
        raise ModelFormatError(f"a parameter that is not a number or text: {value!r:.60}.")
    return tuple(value) if isinstance(value, list) else value


def need(state: HeadState, name: str, *shape: int, kinds: str = "f") -> np.ndarray:
    """Return the array of a name, of this shape and of one of NumPy's kinds.

    Raises
    ------
    ModelFormatError
        It is missing or is another.
    """
    array = state.arrays.get(name)
    if array is None or array.shape != shape or array.dtype.kind not in kinds:
        found = "missing" if array is None else f"{array.dtype} of shape {array.shape}"
        raise ModelFormatError(f"{name} is {found}; expected numbers of shape {shape}.")
    return array


def number(state: HeadState, name: str) -> Any:
    """Return the single number of a name.

    Raises
    ------
    ModelFormatError
        It is not a number.
    """
    value = state.metadata[name]
    if not isinstance(value, int | float):
        raise ModelFormatError(f"{name} is {value!r:.40}; expected a number.")
    float(value)  # OverflowError: a whole number beyond every float
    return value
