"""
A model for a browser or a phone
================================

Network and head as one file, run without featx.
"""

# %%

import tempfile
from pathlib import Path

import featx
from featx import demo

folder = demo.write_images(Path(tempfile.mkdtemp()) / "pipes", n_per_class=12)
network = featx.Backbone(
    "mobilenet_v2", weights=None, image_size=96, layer="block_1_expand_relu", pooling="max"
)
model = featx.ImageClassifier(network, "logistic", examples=0).fit(folder / "train")

# %%
# ONNX for a browser (onnxruntime-web) or a server, TFLite for a phone.

sizes = {}
for name in ("pipes.onnx", "pipes.tflite"):
    facts = model.export(folder / name)
    sizes[name] = (folder / name).stat().st_size
    print(name, f"{sizes[name] / 1e3:.0f} kB")

# %%
# What the file takes stands beside it, for whoever writes the app:

print(facts["input"]["channels"], "|", facts["input"]["range"])
print(facts["input"]["image"]["geometry"], "|", facts["input"]["image"]["resize"])
print(facts["output"]["classes"])

# %%
# ... and so does the code that runs it:

print(facts["snippet"])

# %%
# Run by their own runtimes, the answers are the model's.

import numpy as np
import onnxruntime
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

image = next((folder / "test").rglob("*.jpg"))
pixels = np.asarray(Image.open(image).resize((96, 96), Image.Resampling.BILINEAR))[None]
session = onnxruntime.InferenceSession(folder / "pipes.onnx")
onnx = session.run(None, {session.get_inputs()[0].name: pixels})[0][0]
run = Interpreter(str(folder / "pipes.tflite")).get_signature_runner()
(lite,) = run(**{next(iter(run.get_input_details())): pixels}).values()
expected = model.predict_proba([image])[0]
for name, found in (("featx", expected), ("onnx", onnx), ("tflite", lite[0])):
    print(f"{name:7}", found.round(5))
