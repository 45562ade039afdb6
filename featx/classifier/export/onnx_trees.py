"""Boosted trees as a part of an ONNX graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from featx.heads.boosting import checked_model

ML = "ai.onnx.ml"
# The last version of the operator set with TreeEnsembleRegressor undeprecated, of 2022.
ML_VERSION = 3


def plant(model: Any, trees: dict[str, Any], n_classes: int) -> None:
    """Put trees behind the single output of an ONNX model: embeddings become probabilities.

    Parameters
    ----------
    model : onnx.ModelProto
        Its output is embeddings (n, width); changed in place.
    trees : dict
        As `checked_model.checked` gives.
    """
    from onnx import TensorProto, helper

    graph = model.graph
    embeddings = graph.output[0].name
    learner = trees["learner"]
    groups = 1 if n_classes == 2 else n_classes
    make = helper.make_node
    graph.node.append(
        make(
            "TreeEnsembleRegressor",
            [embeddings],
            ["featx_margins"],
            domain=ML,
            n_targets=groups,
            base_values=_base_values(learner, groups),
            **_attributes(learner["gradient_booster"]["model"]),
        )
    )
    if groups == 1:
        graph.node.extend(
            [
                make("Neg", ["featx_margins"], ["featx_other"]),
                make("Concat", ["featx_other", "featx_margins"], ["featx_both"], axis=1),
                make("Sigmoid", ["featx_both"], ["probabilities"]),
            ]
        )
    else:
        graph.node.append(make("Softmax", ["featx_margins"], ["probabilities"], axis=1))
    del graph.output[:]
    shape = ["batch", n_classes]
    graph.output.append(helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, shape))
    if all(opset.domain != ML for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(ML, ML_VERSION))


def _base_values(learner: dict[str, Any], groups: int) -> list[float]:
    values = checked_model.base_scores(learner["learner_model_param"]["base_score"])
    if groups == 1:
        # The objective states it as a probability, the trees add to its logit.
        values = [float(np.log(value / (1 - value))) for value in values]
    return values * (groups // len(values))


def _attributes(model: dict[str, Any]) -> dict[str, Any]:
    """Return all nodes of all trees in ONNX's parallel lists."""
    trees = model["trees"]
    counts = [len(tree["left_children"]) for tree in trees]
    ids = np.concatenate([np.arange(count) for count in counts])
    numbers = np.repeat(np.arange(len(trees)), counts)

    def joined(name: str) -> np.ndarray:
        return np.concatenate([tree[name] for tree in trees])

    left, right = joined("left_children"), joined("right_children")
    leaf = left == -1
    values = joined("split_conditions").astype(np.float32)  # of a leaf: what it adds
    return {
        "nodes_treeids": numbers.tolist(),
        "nodes_nodeids": ids.tolist(),
        "nodes_featureids": np.where(leaf, 0, joined("split_indices")).tolist(),
        "nodes_values": np.where(leaf, np.float32(0), values).tolist(),
        # XGBoost goes left where the number is below the threshold.
        "nodes_modes": np.where(leaf, "LEAF", "BRANCH_LT").tolist(),
        "nodes_truenodeids": np.where(leaf, 0, left).tolist(),
        "nodes_falsenodeids": np.where(leaf, 0, right).tolist(),
        "nodes_missing_value_tracks_true": joined("default_left").astype(int).tolist(),
        "target_treeids": numbers[leaf].tolist(),
        "target_nodeids": ids[leaf].tolist(),
        "target_ids": np.repeat(model["tree_info"], counts)[leaf].tolist(),
        "target_weights": values[leaf].tolist(),
    }
