"""An XGBoost model as data: checked in Python before XGBoost sees it."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from featx.errors import ModelFormatError
from featx.heads.boosting import ubj
from featx.heads.boosting.ubj import expect

_NO_PARENT = 2**31 - 1

# Which numbers a node has, by XGBoost's names; the model is refused where one is missing.
_PER_NODE = {
    "base_weights": "f",
    "default_left": "i",
    "left_children": "i",
    "loss_changes": "f",
    "parents": "i",
    "right_children": "i",
    "split_conditions": "f",
    "split_indices": "i",
    "split_type": "i",
    "sum_hessian": "f",
}
_CATEGORIES = {
    "categories": np.int32,
    "categories_nodes": np.int32,
    "categories_segments": np.int64,
    "categories_sizes": np.int64,
}
_NUMBERS = re.compile(r"\[?[0-9.eE+,-]{1,1000000}\]?")
OBJECTIVES = ("multi:softprob", "binary:logistic")


def checked(content: bytes, n_features: int, n_classes: int) -> dict[str, Any]:
    """Return the model of UBJ bytes once nothing in it could lead XGBoost astray.

    XGBoost's own reader trusts its file: children out of range make it read foreign memory
    (dmlc/xgboost #7903). What is loaded is therefore `ubj.encoded(checked(...))`: bytes of our own.

    Raises
    ------
    ModelFormatError
        The bytes are not UBJ, or not a model of trees for these features and classes.
    """
    try:
        return _model(ubj.decoded(content), n_features, n_classes)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ModelFormatError(
            f"the XGBoost model is damaged or forged: {type(error).__name__} {error}. It was not "
            "given to XGBoost, which trusts such files."
        ) from error


def _keys(found: Any, *, needed: tuple[str, ...], allowed: tuple[str, ...] = ()) -> dict[str, Any]:
    expect(isinstance(found, dict), "a value in place of a group")
    expect(set(needed) <= set(found), f"without {', '.join(sorted(set(needed) - set(found)))}")
    odd = set(found) - set(needed) - set(allowed)
    expect(not odd, f"with {', '.join(sorted(odd))}")
    return found


def _whole(text: Any) -> int:
    expect(
        isinstance(text, str) and text.isascii() and text.isdigit(), f"{text!r:.40} is not a number"
    )
    expect(len(text) <= 10, f"{text!r:.40} is too large")
    return int(text)


def _model(document: Any, n_features: int, n_classes: int) -> dict[str, Any]:
    root = _keys(document, needed=("learner", "version"))
    version = [int(part) for part in root["version"]]
    expect(len(version) == 3 and all(0 <= part < 1000 for part in version), "an odd version")
    learner = _keys(
        root["learner"],
        needed=("gradient_booster", "learner_model_param", "objective"),
        allowed=("attributes", "feature_names", "feature_types"),
    )
    groups = 1 if n_classes == 2 else n_classes
    booster = _keys(learner["gradient_booster"], needed=("model", "name"))
    expect(booster["name"] == "gbtree", "another booster than gbtree")
    return {
        "learner": {
            "attributes": {},
            "feature_names": [],
            "feature_types": [],
            "gradient_booster": {"model": _trees(booster["model"], n_features, groups)}
            | {"name": "gbtree"},
            "learner_model_param": _parameters(learner["learner_model_param"], n_features, groups),
            "objective": _objective(learner["objective"], groups),
        },
        "version": version,
    }


def _parameters(found: Any, n_features: int, groups: int) -> dict[str, str]:
    needed = ("base_score", "num_class", "num_feature", "num_target")
    found = _keys(found, needed=needed, allowed=("boost_from_average",))
    expect(_whole(found["num_feature"]) == n_features, "another number of features")
    expect(_whole(found["num_class"]) == (groups if groups > 1 else 0), "another number of classes")
    expect(_whole(found["num_target"]) == 1, "several targets")
    expect(_whole(found.get("boost_from_average", "1")) <= 1, "an odd boost_from_average")
    scores = base_scores(found["base_score"])
    expect(len(scores) in (1, groups), "another number of base scores")
    expect(all(map(math.isfinite, scores)), "a base score that is not finite")
    return {key: str(value) for key, value in found.items()}


def base_scores(text: Any) -> list[float]:
    """Return the numbers of XGBoost's base_score, such as "[0E0,1E-1]" or "5E-1"."""
    expect(isinstance(text, str) and bool(_NUMBERS.fullmatch(text)), "no base score")
    return [float(part) for part in text.removeprefix("[").removesuffix("]").split(",")]


def _objective(found: Any, groups: int) -> dict[str, Any]:
    if groups > 1:
        found = _keys(found, needed=("name", "softmax_multiclass_param"))
        inner = _keys(found["softmax_multiclass_param"], needed=("num_class",))
        expect(_whole(inner["num_class"]) == groups, "another number of classes")
        expect(found["name"] == OBJECTIVES[0], "another objective")
        return {"name": OBJECTIVES[0], "softmax_multiclass_param": {"num_class": str(groups)}}
    found = _keys(found, needed=("name", "reg_loss_param"))
    inner = _keys(found["reg_loss_param"], needed=("scale_pos_weight",))
    expect(len(base_scores(inner["scale_pos_weight"])) == 1, "an odd weight")
    expect(found["name"] == OBJECTIVES[1], "another objective")
    weight = str(inner["scale_pos_weight"])
    return {"name": OBJECTIVES[1], "reg_loss_param": {"scale_pos_weight": weight}}


def _trees(found: Any, n_features: int, groups: int) -> dict[str, Any]:
    needed = ("gbtree_model_param", "iteration_indptr", "tree_info", "trees")
    found = _keys(found, needed=needed, allowed=("cats",))
    parameters = _keys(
        found["gbtree_model_param"], needed=("num_parallel_tree", "num_trees"), allowed=()
    )
    trees = found["trees"]
    count = len(trees)
    expect(count >= 1 and _whole(parameters["num_trees"]) == count, "another number of trees")
    expect(_whole(parameters["num_parallel_tree"]) == 1, "parallel trees")
    info = _integers(found["tree_info"], count)
    expect(bool(((info >= 0) & (info < groups)).all()), "a tree of no class")
    steps = _integers(found["iteration_indptr"], len(found["iteration_indptr"]))
    rises = bool((np.diff(steps) >= 0).all()) and len(steps) >= 2
    expect(rises and steps[0] == 0 and steps[-1] == count, "iterations out of order")
    result: dict[str, Any] = {}
    if "cats" in found:
        cats = _keys(found["cats"], needed=("enc", "feature_segments", "sorted_idx"))
        expect(all(len(value) == 0 for value in cats.values()), "categories")
        empty = np.zeros(0, np.int32)
        result["cats"] = {"enc": [], "feature_segments": empty, "sorted_idx": empty}
    return result | {
        "gbtree_model_param": {"num_parallel_tree": "1", "num_trees": str(count)},
        "iteration_indptr": steps.tolist(),
        "tree_info": info.tolist(),
        "trees": [_tree(tree, number, n_features) for number, tree in enumerate(trees)],
    }


def _integers(values: Any, length: int) -> np.ndarray:
    array = np.asarray(values)
    if not array.size:
        array = array.astype(np.int32)
    expect(array.ndim == 1 and array.dtype.kind in "iu" and len(array) == length, "odd numbers")
    expect(bool((np.abs(array.astype(np.int64)) < 2**31).all()), "numbers out of range")
    return array.astype(np.int32)


def _tree(found: Any, number: int, n_features: int) -> dict[str, Any]:
    found = _keys(found, needed=(*_PER_NODE, *_CATEGORIES, "id", "tree_param"))
    parameters = _keys(
        found["tree_param"], needed=("num_deleted", "num_feature", "num_nodes", "size_leaf_vector")
    )
    count = _whole(parameters["num_nodes"])
    expect(count >= 1 and _whole(parameters["num_feature"]) == n_features, "an odd tree")
    expect(_whole(parameters["num_deleted"]) == 0, "deleted nodes")
    expect(_whole(parameters["size_leaf_vector"]) in (0, 1), "leaves that are vectors")
    expect(found["id"] == number, "trees out of order")
    nodes: dict[str, np.ndarray] = {}
    for name, kind in _PER_NODE.items():
        if kind == "i":
            nodes[name] = _integers(found[name], count)
        else:
            nodes[name] = np.asarray(found[name], np.float32)
            expect(nodes[name].shape == (count,), f"another number of {name}")
            expect(bool(np.isfinite(nodes[name]).all()), f"{name} that are not finite")
    expect(all(len(found[name]) == 0 for name in _CATEGORIES), "categories")
    _check_shape(nodes, count, n_features)
    return {
        **{name: np.zeros(0, dtype) for name, dtype in _CATEGORIES.items()},
        **nodes,
        "default_left": nodes["default_left"].astype(np.uint8),
        "split_type": nodes["split_type"].astype(np.uint8),
        "id": number,
        "tree_param": {key: str(value) for key, value in parameters.items()},
    }


def _check_shape(nodes: dict[str, np.ndarray], count: int, n_features: int) -> None:
    """Expect a binary tree: from the root each node is reached once, and no way leads back."""
    left, right, at = nodes["left_children"], nodes["right_children"], np.arange(count)
    inner = left != -1
    expect(bool(((right != -1) == inner).all()), "a node with one child")
    for children in (left[inner], right[inner]):
        # Children come after their parent, so that there can be no circle.
        expect(bool(((children > at[inner]) & (children < count)).all()), "children out of range")
    reached = np.sort(np.concatenate([left[inner], right[inner]]))
    expect(np.array_equal(reached, np.arange(1, count)), "nodes that no way leads to, or two")
    parents = np.full(count, _NO_PARENT, np.int64)
    for children in (left, right):
        parents[children[inner]] = at[inner]
    expect(np.array_equal(nodes["parents"], parents), "parents that do not fit the children")
    features = nodes["split_indices"]
    expect(bool(((features >= 0) & (features < n_features)).all()), "features out of range")
    expect(not nodes["split_type"].any(), "splits by category")
    expect(bool(np.isin(nodes["default_left"], (0, 1)).all()), "an odd default")
