"""The table of published networks: one record each."""

from __future__ import annotations

from typing import NamedTuple


class Architecture(NamedTuple):
    """One published network: where Keras has it and what it takes and gives.

    Attributes
    ----------
    name : str
        What a user calls it.
    builder, family : str
        The function and the module of ``keras.applications``.
    side : int
        Pixels along each edge that the published weights were trained on.
    dim : int
        Width of the globally pooled output.
    preprocessing : str
        What the family's ``preprocess_input`` does: "caffe" (BGR, mean subtracted), "tf"
        (-1..1), "torch" (ImageNet mean and deviation) or "raw" (0-255; scaling is inside).
    weights_file : str
        The name under which Keras stores the ImageNet weights without the top; ``{rows}`` stands
        for the side where a family has one file a side.
    """

    name: str
    builder: str
    family: str
    side: int
    dim: int
    preprocessing: str
    weights_file: str


_TF = "_weights_tf_dim_ordering_tf_kernels"
# Names, sides and preprocessing: Keras 3.15.1, keras/src/applications. A test builds each row,
# compares its dim, and its weights_file with the name that Keras's own loader asks for.
BACKBONES: dict[str, Architecture] = {
    row[0]: Architecture(*row)
    for row in (
        ("vgg16", "VGG16", "vgg16", 224, 512, "caffe", f"vgg16{_TF}_notop.h5"),
        ("vgg19", "VGG19", "vgg19", 224, 512, "caffe", f"vgg19{_TF}_notop.h5"),
        ("xception", "Xception", "xception", 299, 2048, "tf", f"xception{_TF}_notop.h5"),
        ("inception_v3", "InceptionV3", "inception_v3", 299, 2048, "tf",
         f"inception_v3{_TF}_notop.h5"),
        ("inception_resnet_v2", "InceptionResNetV2", "inception_resnet_v2", 299, 1536, "tf",
         f"inception_resnet_v2{_TF}_notop.h5"),
        ("mobilenet", "MobileNet", "mobilenet", 224, 1024, "tf",
         "mobilenet_1_0_{rows}_tf_no_top.h5"),
        ("mobilenet_v2", "MobileNetV2", "mobilenet_v2", 224, 1280, "tf",
         f"mobilenet_v2{_TF}_1.0_{{rows}}_no_top.h5"),
        ("mobilenet_v3_small", "MobileNetV3Small", "mobilenet_v3", 224, 576, "raw",
         "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5"),
        ("mobilenet_v3_large", "MobileNetV3Large", "mobilenet_v3", 224, 960, "raw",
         "weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5"),
        *(
            (f"efficientnet_b{i}", f"EfficientNetB{i}", "efficientnet", side, dim, "raw",
             f"efficientnetb{i}_notop.h5")
            for i, (side, dim) in enumerate([
                (224, 1280), (240, 1280), (260, 1408), (300, 1536),
                (380, 1792), (456, 2048), (528, 2304), (600, 2560),
            ])
        ),
        *(
            (f"efficientnet_v2_{size.lower()}", f"EfficientNetV2{size}", "efficientnet_v2", side,
             dim, "raw", f"efficientnetv2-{size.lower()}_notop.h5")
            for size, side, dim in [
                ("B0", 224, 1280), ("B1", 240, 1280), ("B2", 260, 1408), ("B3", 300, 1536),
                ("S", 384, 1280), ("M", 480, 1280), ("L", 480, 1280),
            ]
        ),
        *(
            (f"densenet{depth}", f"DenseNet{depth}", "densenet", 224, dim, "torch",
             f"densenet{depth}{_TF}_notop.h5")
            for depth, dim in [(121, 1024), (169, 1664), (201, 1920)]
        ),
        *(
            (f"convnext_{size.lower()}", f"ConvNeXt{size}", "convnext", 224, dim, "raw",
             f"convnext_{size.lower()}_notop.h5")
            for size, dim in [
                ("Tiny", 768), ("Small", 768), ("Base", 1024), ("Large", 1536), ("XLarge", 2048),
            ]
        ),
        ("nasnet_mobile", "NASNetMobile", "nasnet", 224, 1056, "tf", "nasnet_mobile_no_top.h5"),
        ("nasnet_large", "NASNetLarge", "nasnet", 331, 4032, "tf", "nasnet_large_no_top.h5"),
        *(
            (f"resnet{depth}", f"ResNet{depth}", "resnet", 224, 2048, "caffe",
             f"resnet{depth}{_TF}_notop.h5")
            for depth in (50, 101, 152)
        ),
        *(
            (f"resnet{depth}_v2", f"ResNet{depth}V2", "resnet_v2", 224, 2048, "tf",
             f"resnet{depth}v2{_TF}_notop.h5")
            for depth in (50, 101, 152)
        ),
    )
}  # fmt: skip

# The sides for which a family publishes a weights file of its own; Keras falls back to 224.
ROWS = {"mobilenet": (128, 160, 192, 224), "mobilenet_v2": (96, 128, 160, 192, 224)}

# Which family's preprocess_input stands for a mode, for networks of the user's own.
FAMILY_OF_MODE = {"caffe": "resnet", "tf": "resnet_v2", "torch": "densenet", "raw": "efficientnet"}
