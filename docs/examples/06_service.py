"""
A service
=========

A trained model behind HTTP: started, asked, and stopped again.
"""

# %%
# A model file is all that the service needs, besides the network's weights.

import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import featx
from featx import demo

folder = demo.write_images(Path(tempfile.mkdtemp()) / "pipes", n_per_class=12)
network = featx.Backbone(
    "mobilenet_v2", weights=None, image_size=96, layer="block_1_expand_relu", pooling="max"
)
model = featx.ImageClassifier(network, "logistic").fit(folder / "train")
digest = model.save(folder / "model.featx")

# %%
# ``featx serve model.featx`` on a free port of this machine. With ``--sha256`` no other file is
# served. It listens at once, and answers 503 with ``Retry-After`` until the model is loaded.

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
command = [sys.executable, "-m", "featx", "serve", str(folder / "model.featx")]
server = subprocess.Popen(
    [*command, "--port", str(port), "--sha256", digest],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
)
address = f"http://127.0.0.1:{port}"


def ask(path: str, content: bytes | None = None) -> dict:
    """Return the JSON that the service answers with, waiting until its model is loaded."""
    kind = {} if content is None else {"Content-Type": "image/jpeg"}
    for _ in range(1200):
        try:
            asked = urllib.request.Request(address + path, content, kind)
            with urllib.request.urlopen(asked) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if "Retry-After" not in error.headers:
                return {"status": error.code, **json.load(error)}
            time.sleep(0.1)
        except OSError:
            if server.poll() is not None:
                raise
            time.sleep(0.1)
    raise TimeoutError(address)


print(ask("/metadata"))

# %%
# The bytes of an image, as a phone sends them.

image = next((folder / "test").rglob("*.jpg"))
answer = ask("/predict", image.read_bytes())
print(json.dumps(answer, indent=1)[:600])

# %%
# What is not an image gets a sentence, and the service goes on.

print(ask("/predict", b"not an image"))
server.terminate()
print("ended with", server.wait(30))
