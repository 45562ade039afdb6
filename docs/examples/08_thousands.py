"""
Thousands of images on a laptop
===============================

What 1,797 images cost, what an interruption costs, and what ten more cost.
"""

# %%
# scikit-learn's digits as an array; 8 x 8 pixels, so that this example is quick.

import tempfile
import time

import numpy as np
from sklearn.datasets import load_digits

import featx

digits = load_digits()
images = np.repeat(digits.images[..., None] * 15.9, 3, axis=-1).astype(np.uint8)
network = featx.Backbone("mobilenet_v2", weights=None, image_size=32, layer="block_3_expand_relu")
print(images.shape, images.nbytes // 1000, "kB")

# %%
# A first part, as if the run had been interrupted after 1,000 images; then all of them. Only what
# is missing is computed.

cache = tempfile.mkdtemp()  # leave cache= out: the default is kept from run to run
part = featx.extract(images[:1000], network, cache=cache, progress=False)
began = time.perf_counter()
features = featx.extract(
    featx.Dataset.from_array(images, digits.target), network, cache=cache, progress=False
)
print(
    "computed",
    features.report.computed,
    "cached",
    features.report.cached,
    f"{time.perf_counter() - began:.1f} s",
)

# %%
# Again: nothing is computed, whatever the labels are now.

began = time.perf_counter()
again = featx.extract(
    featx.Dataset.from_array(images, digits.target % 2), network, cache=cache, progress=False
)
print("computed", again.report.computed, f"{time.perf_counter() - began:.2f} s")

# %%
# The matrix in memory, for a million images of this network:

print(f"{features.X.shape[1] * 4 * 1_000_000 / 1e9:.1f} GB")

# %%
# ``ridge`` needs one pass over the embeddings, and images may arrive in parts.

head = featx.heads.ridge()
for start in range(0, 1400, 350):
    head.partial_fit(
        features.X[start : start + 350], features.y[start : start + 350], classes=np.arange(10)
    )
print(f"right: {head.score(features.X[1400:], features.y[1400:]):.3f}")
