"""A batch of uint8 images to float32 embeddings, fast: the Keras backend in use, or OpenVINO."""

from featx.runtimes.choice import RUNTIMES, bytes_to_keep, check_runtime, explain, forget, start
from featx.runtimes.runtime import Runtime, check_batch_size, cpu_count, versions

__all__ = [
    "RUNTIMES",
    "Runtime",
    "bytes_to_keep",
    "check_batch_size",
    "check_runtime",
    "cpu_count",
    "explain",
    "forget",
    "start",
    "versions",
]
