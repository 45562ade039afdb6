"""What the machine lacked for a moment says nothing about an image: memory, a caller's limit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from featx.errors import ImageReadError
from featx.images import decoding

SHORT = """
import resource, sys
from pathlib import Path
from featx.images import decoding
content = Path(sys.argv[1]).read_bytes()
decoding.decode(Path(sys.argv[2]).read_bytes())  # what is loaded once is loaded now
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limits = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[3]), limits[1]))
try:
    decoding.decode(content)
    print("decoded")
except Exception as error:
    resource.setrlimit(resource.RLIMIT_AS, limits)
    print(type(error).__name__, getattr(error, "permanent", None), error)
"""
SIDE = 4000
needs_limits = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="RLIMIT_AS limits memory on Linux alone"
)


@needs_limits
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("progressive.jpg", {"progressive": True}),
        ("baseline.jpg", {}),
        ("image.png", {}),
        ("image.webp", {"method": 0}),
        ("image.tif", {"compression": "tiff_lzw"}),
        ("image.gif", {}),
    ],
)
def test_a_good_image_without_memory_is_not_called_damaged(
    name: str, options: dict[str, object], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    small.save(tmp_path / f"small-{name}", **options)
    small.resize((SIDE, SIDE), Image.Resampling.NEAREST).save(tmp_path / name, **options)

    def answer(memory: int) -> str:
        command = [
            sys.executable,
            "-c",
            SHORT,
            str(tmp_path / name),
            str(tmp_path / f"small-{name}"),
        ]
        return subprocess.run(
            [*command, str(memory)], capture_output=True, text=True, check=True, timeout=120
        ).stdout.strip()

    assert answer(1 << 31) == "decoded"
    for memory in (20_000_000, 60_000_000):  # the pixels alone take 48 MB, and are held twice
        found = answer(memory)
        assert found.startswith("ImageMemoryError False not enough memory"), found


def test_a_limit_of_the_callers_is_not_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (300, 300)).save(tmp_path / "good.png")
    content = (tmp_path / "good.png").read_bytes()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImageReadError, match="MAX_IMAGE_PIXELS is 1,000 in this program") as raised:
        decoding.decode(content)
    assert not raised.value.permanent
    monkeypatch.undo()
    assert decoding.decode(content).shape == (300, 300, 3)


def test_a_limit_of_text_in_png_is_not_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (30, 30)).save(tmp_path / "good.png", icc_profile=profile)
    content = (tmp_path / "good.png").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(PngImagePlugin, "MAX_TEXT_CHUNK", 100)
        with pytest.raises(ImageReadError, match="MAX_TEXT_CHUNK is 100 in") as raised:
            decoding.decode(content)
        assert not raised.value.permanent
    assert decoding.decode(content).shape == (30, 30, 3)
