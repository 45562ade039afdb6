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
        for the side where a family has one file per side.
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

# Families whose authors trained and evaluated with a bicubic filter: tensorflow/tpu
# (efficientnet/preprocessing.py), facebookresearch/ConvNeXt (datasets.py). EfficientNetV2's
# (google/automl, efficientnetv2/preprocessing.py) leaves tf.image.resize at its bilinear default.
BICUBIC = frozenset(("efficientnet", "convnext"))

# What identifies the file of each name: the `file_hash` with which Keras 3.15.1 fetches it
# (keras/src/applications): an MD5 or, of 64 digits, a sha256. A test compares them with its own.
# Keras has none for mobilenet and mobilenet_v2.
FILE_HASHES: dict[str, str] = {
    f"vgg16{_TF}_notop.h5": "6d6bbae143d832006294945121d1f1fc",
    f"vgg19{_TF}_notop.h5": "253f8cb515780f3b799900260a226db6",
    f"xception{_TF}_notop.h5": "b0042744bf5b25fce3cb969f33bebb97",
    f"inception_v3{_TF}_notop.h5": "bcbd6486424b2319ff4ef7d526e38f63",
    f"inception_resnet_v2{_TF}_notop.h5": "d19885ff4a710c122648d3b5c3b684e4",
    "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5": "d3e8ec802a04aa4fc771ee12a9a9b836",
    "weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5": "07fb09a5933dd0c8eaafa16978110389",
    "efficientnetb0_notop.h5": "50bc09e76180e00e4465e1a485ddc09d",
    "efficientnetb1_notop.h5": "74c4e6b3e1f6a1eea24c589628592432",
    "efficientnetb2_notop.h5": "111f8e2ac8aa800a7a99e3239f7bfb39",
    "efficientnetb3_notop.h5": "af6d107764bb5b1abb91932881670226",
    "efficientnetb4_notop.h5": "ebc24e6d6c33eaebbd558eafbeedf1ba",
    "efficientnetb5_notop.h5": "38879255a25d3c92d5e44e04ae6cec6f",
    "efficientnetb6_notop.h5": "9ecce42647a20130c1f39a5d4cb75743",
    "efficientnetb7_notop.h5": "cbcfe4450ddf6f3ad90b1b398090fe4a",
    "efficientnetv2-b0_notop.h5": "893217f2bb855e2983157299931e43ff",
    "efficientnetv2-b1_notop.h5": "0e80663031ca32d657f9caa404b6ec37",
    "efficientnetv2-b2_notop.h5": "1dfe2e7a5d45b6632553a8961ea609eb",
    "efficientnetv2-b3_notop.h5": "f6abf7b5849ac99a89b50dd3fd532856",
    "efficientnetv2-s_notop.h5": "af0682fb74e8c54910f2d4393339c070",
    "efficientnetv2-m_notop.h5": "1b8dc055df72dde80d614482840fe342",
    "efficientnetv2-l_notop.h5": "b0b66b5c863aef5b46e8608fe1711615",
    f"densenet121{_TF}_notop.h5": "30ee3e1110167f948a6b9946edeeb738",
    f"densenet169{_TF}_notop.h5": "b8c4d4c20dd625c148057b9ff1c1176b",
    f"densenet201{_TF}_notop.h5": "c13680b51ded0fb44dff2d8f86ac8bb1",
    "convnext_tiny_notop.h5": "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
    "convnext_small_notop.h5": "6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab",
    "convnext_base_notop.h5": "40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45",
    "convnext_large_notop.h5": "96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd",
    "convnext_xlarge_notop.h5": "de3f8a54174130e0cecdc71583354753d557fcf1f4487331558e2a16ba0cfe05",
    "nasnet_mobile_no_top.h5": "1ed92395b5b598bdda52abe5c0dbfd63",
    "nasnet_large_no_top.h5": "d81d89dc07e6e56530c4e77faddd61b5",
    f"resnet50{_TF}_notop.h5": "4d473c1dd8becc155b73f8504c6f6626",
    f"resnet101{_TF}_notop.h5": "88cf7a10940856eca736dc7b7e228a21",
    f"resnet152{_TF}_notop.h5": "ee4c566cf9a93f14d82f913c2dc6dd0c",
    f"resnet50v2{_TF}_notop.h5": "fac2f116257151a9d068a22e544a4917",
    f"resnet101v2{_TF}_notop.h5": "c0ed64b8031c3730f411d2eb4eea35b5",
    f"resnet152v2{_TF}_notop.h5": "ed17cf2e0169df9d443503ef94b23b33",
}  # fmt: skip

# The sides for which a family publishes a weights file of its own; Keras falls back to 224.
ROWS = {"mobilenet": (128, 160, 192, 224), "mobilenet_v2": (96, 128, 160, 192, 224)}

# Which family's preprocess_input stands for a mode, for networks of the user's own.
FAMILY_OF_MODE = {"caffe": "resnet", "tf": "resnet_v2", "torch": "densenet", "raw": "efficientnet"}
