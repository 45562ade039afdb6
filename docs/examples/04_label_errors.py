"""
Finding label errors
====================

Six of 150 labels are wrong. Held-out predictions that are sure and different point to them.
"""

# %%

import tempfile
from pathlib import Path

import numpy as np

import featx
from featx import demo

folder = demo.write_images(Path(tempfile.mkdtemp()) / "pipes", n_per_class=75)
network = featx.Backbone(
    "mobilenet_v2", weights=None, image_size=96, layer="block_1_expand_relu", pooling="max"
)
features = featx.extract(folder / "train", network, progress=False)
rng = np.random.default_rng(1)
wrong = rng.choice(len(features), 6, replace=False)
labels = features.y.copy()
for index in wrong:
    labels[index] = rng.choice([name for name in demo.CLASSES if name != labels[index]])
print(len(labels), "images,", len(wrong), "wrong labels")

# %%
# Every image is predicted by a head that was trained without it. What is left for the given label
# is how much one may believe it.

from sklearn.model_selection import cross_val_predict

proba = cross_val_predict(featx.heads.logistic(), features.X, labels, cv=5, method="predict_proba")
given = proba[np.arange(len(labels)), np.searchsorted(demo.CLASSES, labels)]
order = np.argsort(given)
first = order[:15]
print(
    "of the 15 most doubtful,",
    len(set(first) & set(wrong)),
    "are wrong; by chance",
    round(15 * len(wrong) / len(labels), 1),
)

# %%
# The most doubtful ones, to be looked at.

import matplotlib.pyplot as plt
from PIL import Image

figure, axes = plt.subplots(1, 5, figsize=(9, 2.4))
for axis, index in zip(axes, first[:5], strict=True):
    axis.imshow(Image.open(folder / "train" / features.ids[index]))
    mark = "wrong" if index in wrong else "right"
    axis.set_title(f"{labels[index]}\n({mark})", fontsize=9)
    axis.axis("off")
figure.tight_layout()
