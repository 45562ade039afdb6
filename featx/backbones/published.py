"""What Keras publishes about each network: accuracy on ImageNet, parameters, size.

Source: https://keras.io/api/applications (2025-11). Accuracies are of the whole network with its
classification layer on the ImageNet validation set; the embedding leaves that layer out, so the
download without it is smaller than the size here. Keras publishes no such line for MobileNetV3.
"""

from __future__ import annotations

from typing import NamedTuple

from featx.backbones.architectures import BACKBONES


class Published(NamedTuple):
    """One line of Keras's table.

    Attributes
    ----------
    size_mb : int
        Megabytes of the weights, classification layer included.
    top1 : float
        Top-1 accuracy on the ImageNet validation set, in percent.
    parameters_m : float
        Parameters in millions, classification layer included.
    """

    size_mb: int
    top1: float
    parameters_m: float


PUBLISHED: dict[str, Published] = {
    name: Published(*figures)
    for name, figures in {
        "vgg16": (528, 71.3, 138.4),
        "vgg19": (549, 71.3, 143.7),
        "xception": (88, 79.0, 22.9),
        "inception_v3": (92, 77.9, 23.9),
        "inception_resnet_v2": (215, 80.3, 55.9),
        "mobilenet": (16, 70.4, 4.3),
        "mobilenet_v2": (14, 71.3, 3.5),
        "resnet50": (98, 74.9, 25.6),
        "resnet101": (171, 76.4, 44.7),
        "resnet152": (232, 76.6, 60.4),
        "resnet50_v2": (98, 76.0, 25.6),
        "resnet101_v2": (171, 77.2, 44.7),
        "resnet152_v2": (232, 78.0, 60.4),
        "densenet121": (33, 75.0, 8.1),
        "densenet169": (57, 76.2, 14.3),
        "densenet201": (80, 77.3, 20.2),
        "nasnet_mobile": (23, 74.4, 5.3),
        "nasnet_large": (343, 82.5, 88.9),
        "efficientnet_b0": (29, 77.1, 5.3),
        "efficientnet_b1": (31, 79.1, 7.9),
        "efficientnet_b2": (36, 80.1, 9.2),
        "efficientnet_b3": (48, 81.6, 12.3),
        "efficientnet_b4": (75, 82.9, 19.5),
        "efficientnet_b5": (118, 83.6, 30.6),
        "efficientnet_b6": (166, 84.0, 43.3),
        "efficientnet_b7": (256, 84.3, 66.7),
        "efficientnet_v2_b0": (29, 78.7, 7.2),
        "efficientnet_v2_b1": (34, 79.8, 8.2),
        "efficientnet_v2_b2": (42, 80.5, 10.2),
        "efficientnet_v2_b3": (59, 82.0, 14.5),
        "efficientnet_v2_s": (88, 83.9, 21.6),
        "efficientnet_v2_m": (220, 85.3, 54.4),
        "efficientnet_v2_l": (479, 85.7, 119.0),
        "convnext_tiny": (109, 81.3, 28.6),
        "convnext_small": (192, 82.3, 50.2),
        "convnext_base": (339, 85.3, 88.5),
        "convnext_large": (755, 86.3, 197.7),
        "convnext_xlarge": (1310, 86.7, 350.1),
    }.items()
}


_SHOWN = ("name", "family", "side", "dim", "preprocessing")


def facts(name: str) -> dict[str, str | int | float | bool | None]:
    """Return what helps to choose a network, by the name of the fact; None where it is not known.

    Returns
    -------
    dict
        `name`, `family`, `side`, `dim` and `preprocessing` as in `BACKBONES`, `top1` (percent),
        `parameters_m`, `size_mb`, and `on_disk`, whether its ImageNet weights are.
    """
    from featx.backbones.backbone import Backbone

    one, known = BACKBONES[name], PUBLISHED.get(name)
    return {
        **{key: getattr(one, key) for key in _SHOWN},
        "top1": None if known is None else known.top1,
        "parameters_m": None if known is None else known.parameters_m,
        "size_mb": None if known is None else known.size_mb,
        "on_disk": Backbone(name).weights_path().is_file(),
    }
