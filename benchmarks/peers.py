"""Other extractors on the same images and network, each by its own documented calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Sized
from pathlib import Path
from typing import Any


def _timed(extract: Callable[[], Sized]) -> dict[str, Any]:
    """Extract twice and time the second: featx too is timed after a warm-up."""
    extract()
    began = time.perf_counter()
    features = extract()
    return {"images": len(features), "seconds": time.perf_counter() - began}


def thingsvision(folder: str) -> dict[str, Any]:
    """MobileNetV2 of torchvision through thingsvision, untrained: no weights are at hand."""
    import torch
    from thingsvision import get_extractor
    from thingsvision.utils.data import DataLoader, ImageDataset

    extractor = get_extractor("mobilenet_v2", source="torchvision", device="cpu", pretrained=False)
    dataset = ImageDataset(
        root=folder,
        out_path=str(Path(folder).parent / "thingsvision"),
        backend=extractor.get_backend(),
        transforms=extractor.get_transformations(resize_dim=224, crop_dim=224),
    )
    with torch.inference_mode():
        return _timed(
            lambda: extractor.extract_features(
                batches=DataLoader(dataset, batch_size=32, backend=extractor.get_backend()),
                module_name="classifier.0",
                flatten_acts=True,
                output_type="ndarray",
            )
        )


def embetter(folder: str) -> dict[str, Any]:
    """MobileNetV2 of timm through embetter's loader and encoder, untrained as above."""
    import timm
    from embetter.vision import ImageLoader, TimmEncoder

    made = timm.create_model
    # embetter always asks for trained weights, which this machine may not fetch; speed is alike.
    timm.create_model = lambda name, pretrained=False, **options: made(name, **options)
    encoder = TimmEncoder("mobilenetv2_100")
    paths = [str(path) for path in sorted(Path(folder).rglob("*.jpg"))]
    return _timed(lambda: encoder.transform(ImageLoader().fit_transform(paths)))
