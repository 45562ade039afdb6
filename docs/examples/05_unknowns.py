"""
Images of no known class
========================

A classifier answers with one of its classes, whatever it is shown. How far the nearest training
image is says whether to believe it.
"""

# %%
# Trained on two kinds of pipes, and shown photographs that scikit-learn ships: a temple and a
# flower.

import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_sample_images

import featx
from featx import demo

folder = demo.write_images(Path(tempfile.mkdtemp()) / "pipes", n_per_class=30)
network = featx.Backbone(
    "mobilenet_v2", weights=None, image_size=96, layer="block_1_expand_relu", pooling="max"
)
train = featx.extract(folder / "train", network, progress=False)
known = featx.extract(folder / "test", network, progress=False)
photographs = load_sample_images().images
crops = np.stack(
    [
        image[y : y + 200, x : x + 200]
        for image in photographs
        for y in (0, 200)
        for x in (0, 220, 430)
    ]
)
unknown = featx.extract(crops, network, progress=False)

# %%
# The head answers with one of the pipes for the temple, too, and says nothing of doubt.

head = featx.heads.logistic().fit(train.X, train.y)
for name, X in (("pipes", known.X), ("others", unknown.X)):
    print(
        name, "mean of the highest probability", head.predict_proba(X).max(axis=1).mean().round(2)
    )

# %%
# The distance to the nearest training image is not fooled. The bound is chosen on training images
# alone: the distance that 95 % of them keep from the others.

from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

scale = StandardScaler().fit(train.X)
near = NearestNeighbors().fit(scale.transform(train.X))
own = near.kneighbors(scale.transform(train.X), 2)[0][:, 1]
bound = np.quantile(own, 0.95)
for name, X in (("pipes", known.X), ("others", unknown.X)):
    far = near.kneighbors(scale.transform(X), 1)[0][:, 0] > bound
    print(f"{name}: {far.mean():.0%} refused")

# %%

import matplotlib.pyplot as plt

figure, axis = plt.subplots(figsize=(6, 2.6))
for name, X in (("pipes", known.X), ("others", unknown.X)):
    axis.hist(near.kneighbors(scale.transform(X), 1)[0][:, 0], bins=15, alpha=0.6, label=name)
axis.axvline(bound, color="grey", linestyle="--", label="bound")
axis.set_xlabel("distance to the nearest training image")
axis.legend()
figure.tight_layout()
