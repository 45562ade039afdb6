"""
Defects on 60 images
====================

Sixty photographs of pipes, three classes, and the question whether that is enough to tell corroded,
cracked and healthy ones apart.
"""

# %%
# featx draws the images itself; every third one is held out for testing.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image

import featx
from featx import demo

folder = demo.write_images(Path(tempfile.mkdtemp()) / "pipes", n_per_class=20)
figure, axes = plt.subplots(1, 3, figsize=(7, 2.6))
for axis, name in zip(axes, demo.CLASSES, strict=True):
    axis.imshow(Image.open(folder / "train" / name / "0000.jpg"))
    axis.set_title(name)
    axis.axis("off")

# %%
# The network runs once over every image. This one has random weights, so that the example needs no
# download; ``featx.Backbone("mobilenet_v2")`` is the one you want.

network = featx.Backbone(
    "mobilenet_v2", weights=None, image_size=96, layer="block_1_expand_relu", pooling="max"
)
train = featx.extract(folder / "train", network, progress=False)
test = featx.extract(folder / "test", network, progress=False)
print(train)

# %%
# The head takes a moment, so trying several costs nothing. Choose by cross-validation on the
# training images, not by the test images.

from sklearn.model_selection import cross_val_score

for name in ("logistic", "ridge", "nearest"):
    print(name, cross_val_score(featx.HEADS[name](), train.X, train.y, cv=4).mean().round(3))

# %%
# One score, and what it is worth with twenty test images: ``featx.benchmark`` computes the
# interval.

report = featx.benchmark(
    folder / "train",
    folder / "test",
    backbones=[network],
    heads=["logistic"],
    baseline=False,
    evidence=False,
    progress=False,
)
print(report.verdict.headline)
