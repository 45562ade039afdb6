"""
Groups: images that belong together
===================================

Four photographs of each pipe. Divided by image, the same pipe is on both sides of the split, and
the accuracy flatters.
"""

# %%
# Each pipe is drawn once and then photographed four times, a little brighter or darker. Its class
# is a coin toss: there is nothing to learn but the pipe itself.

import tempfile
from pathlib import Path

import numpy as np
import pandas
from PIL import ImageEnhance

import featx
from featx import demo

rng = np.random.default_rng(0)
folder = Path(tempfile.mkdtemp())
rows = []
for pipe in range(24):
    image = demo.draw("healthy", rng)
    label = "good" if pipe % 2 else "bad"
    for shot in range(4):
        name = f"pipe{pipe:02d}-{shot}.jpg"
        ImageEnhance.Brightness(image).enhance(0.9 + 0.05 * shot).save(folder / name)
        rows.append({"path": name, "label": label, "pipe": f"pipe{pipe:02d}"})
pandas.DataFrame(rows).to_csv(folder / "labels.csv", index=False)

# %%
# Folds by image, and folds by pipe.

from sklearn.model_selection import GroupKFold, KFold, cross_val_score

network = featx.Backbone(
    "mobilenet_v2", weights=None, image_size=96, layer="block_1_expand_relu", pooling="max"
)
table = pandas.read_csv(folder / "labels.csv")
features = featx.extract(folder / "labels.csv", network, progress=False)
head = featx.heads.nearest(k=1)
by_image = cross_val_score(
    head, features.X, features.y, cv=KFold(4, shuffle=True, random_state=0)
).mean()
by_pipe = cross_val_score(
    head, features.X, features.y, cv=GroupKFold(4), groups=table["pipe"]
).mean()
print(f"by image {by_image:.2f}, by pipe {by_pipe:.2f}; a coin would get 0.50")

# %%
# ``featx.benchmark(..., groups="pipe")`` does that for every method and states both figures.

import matplotlib.pyplot as plt

figure, axis = plt.subplots(figsize=(5, 2.4))
axis.barh(["folds by pipe", "folds by image"], [by_pipe, by_image], color=["#2a7fba", "#d1495b"])
axis.axvline(0.5, color="grey", linestyle="--")
axis.set_xlabel("accuracy on labels that were drawn by lot")
axis.set_xlim(0, 1)
figure.tight_layout()
