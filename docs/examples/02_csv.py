"""
A CSV of labels
===============

Handwritten digits in one folder, their labels in a table, and some files that are not there.
"""

# %%
# scikit-learn ships 1,797 digits of 8 x 8 pixels. A few hundred become PNG files with names that
# say nothing.

import tempfile
from pathlib import Path

import numpy as np
import pandas
from PIL import Image
from sklearn.datasets import load_digits

import featx

digits = load_digits()
folder = Path(tempfile.mkdtemp())
(folder / "scans").mkdir()
rows = []
for number, (pixels, label) in enumerate(zip(digits.images[:300], digits.target, strict=False)):
    grey = (255 - pixels / 16 * 255).astype(np.uint8)
    Image.fromarray(grey).resize((64, 64)).save(folder / "scans" / f"{number:04d}.png")
    rows.append({"scan": f"{number:04d}", "digit": label})
pandas.DataFrame(rows).to_csv(folder / "labels.csv", index=False)
print((folder / "labels.csv").read_text()[:40])

# %%
# The columns have names of their own and the paths lack folder and suffix: three arguments say so.

images = featx.Dataset.from_table(
    folder / "labels.csv",
    path_column="scan",
    label_column="digit",
    folder=folder / "scans",
    suffix=".png",
)
network = featx.Backbone(
    "mobilenet_v2", weights=None, image_size=32, layer="block_1_expand_relu", pooling=None
)
features = featx.extract(images, network, progress=False)
print(features.X.shape, features.classes)

# %%
# Labels of a CSV file are text, and their classes are in order of value. (Labels of an array or a
# DataFrame that are numbers stay numbers.)

from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.decomposition import PCA

head = make_pipeline(PCA(60, random_state=0), featx.heads.ridge())
answers = cross_val_predict(head, features.X, features.y, cv=3)
print("right:", (answers == features.y).mean().round(3), answers[:10])

# %%
# A damaged file is named, and with ``on_error="skip"`` left out of images and labels alike.

(folder / "scans" / "0007.png").write_bytes(b"half a file")
rest = featx.extract(images, network, on_error="skip", progress=False)
print(len(rest), "images;", *rest.failures)
