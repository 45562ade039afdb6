"""The pages in Chromium: hostile names stay text, nothing is asked for, hover and filters work."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from featx.backbones.backbone import Backbone
from featx.evaluation.comparison import benchmark
from featx.evaluation.report.joined import join
from featx.evaluation.report.report import Report
from featx.formatting import printable
from tests.conftest import SHARED

# A slash and a NUL are all that a file system refuses.
CLASSES = [
    "<img src=x onerror=alert(1)>",
    "\"'><svg onload=alert(2)> {{ 7*7 }} `",
    "רוח\u202egnp.exe",
    "🌷🏵 tulip & <b>bold<",
    "x" * 200,
]
FILES = [
    "<img src=x onerror=alert(3)>.jpg",
    "\" onmouseover=alert(4) x='.jpg",
    "<script>alert(5)<",
    "עברית\u202eabc 🌻.jpg",
    "&lt;i&gt; \\u003c %3Cb%3E.jpg",
    "y" * 240 + ".jpg",
]
PER_CLASS = 12


def _images(folder: Path) -> Path:
    """Copy real images, where there are some, to a folder whose names are all hostile."""
    real = SHARED / "datasets" / "flowers" / "test"
    rng = np.random.default_rng(0)
    for number, label in enumerate(CLASSES):
        place = folder / label
        place.mkdir(parents=True)
        sources = sorted(sorted(real.iterdir())[number].iterdir()) if real.is_dir() else []
        for position in range(PER_CLASS):
            name = FILES[position] if position < len(FILES) else f"{position}.jpg"
            if sources:
                image: Image.Image = Image.open(sources[position])
            else:
                pixels = rng.integers(0, 120, (60, 80, 3), dtype=np.uint8)
                pixels[..., number % 3] += 100
                image = Image.fromarray(pixels)
            image.convert("RGB").save(place / name, "JPEG")
    return folder


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("hostile")
    return benchmark(
        _images(folder / "images <b>&"),
        backbones=[Backbone("mobilenet_v2", weights=None, image_size=32)],
        heads=["logistic", "nearest"],
        baseline=False,
        folds=3,
        cache=folder / "cache",
        progress=False,
    )


@pytest.fixture(scope="module")
def pages(report: Report, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    one, two = (report.save(folder / name) for name in ("one", "<i>two"))
    joined = join([one, two]).save(folder / "joined")
    return {"report": one / "report.html", "joined": joined / "comparison.html"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    with sync_api.sync_playwright() as play:
        found = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()


class Watched:
    """A page, and all that it did that it should not."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.wrong: list[str] = []
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("console", lambda line: self.wrong.append(f"{line.type}: {line.text}"))
        self.page.on("request", self._asked)
        self.page.on("dialog", self._ran)
        self.page.goto(path.as_uri())

    def _asked(self, request: Any) -> None:
        image = request.url.startswith("data:image/jpeg;base64,")
        itself = request.url.startswith("file://") and request.is_navigation_request()
        if not image and not itself:
            self.wrong.append(f"request: {request.url}")

    def _ran(self, dialog: Any) -> None:
        self.wrong.append(f"ran: {dialog.message}")
        dialog.dismiss()


@pytest.fixture(params=["report", "joined"])
def watched(
    request: pytest.FixtureRequest, browser: Any, pages: dict[str, Path], tmp_path: Path
) -> Iterator[Watched]:
    found = Watched(browser, pages[request.param], viewport={"width": 1280, "height": 900})
    yield found
    # $FEATX_SCREENSHOTS: a folder to look at what the test saw.
    folder = Path(os.environ.get("FEATX_SCREENSHOTS", tmp_path))
    found.page.screenshot(path=folder / f"{request.param}-hostile.png", full_page=True)
    found.context.close()
    assert not found.wrong


def test_names_stay_text(watched: Watched) -> None:
    page = watched.page
    assert page.locator("script").count() == 1
    assert page.locator("img[src=x], svg[onload], [onerror], [onmouseover], b b").count() == 0
    assert page.locator("img").evaluate_all("all => all.every((i) => i.src.startsWith('data:'))")
    shown = page.locator("bdi").all_text_contents()
    assert {printable(name) for name in CLASSES} <= set(shown)
    assert not any("\u202e" in text for text in shown)
    # Whatever is pointed at or entered.
    for control in ("summary", "th", "figure"):
        page.locator(control).first.hover()
    page.wait_for_timeout(100)


def test_pointing_at_the_map_tells_the_image(watched: Watched) -> None:
    page = watched.page
    point = page.locator(".pt.wrong").first
    page.locator(".places").first.scroll_into_view_if_needed()
    card = page.locator(".card").first
    assert card.is_hidden()
    box = point.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert card.is_visible()
    shown = page.locator(".pt.on").first
    for part in ("id", "label", "given"):
        assert card.locator(f".{part}").inner_text() == shown.get_attribute(f"data-{part}")
    image = "c => new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size"
    assert card.locator("canvas").evaluate(image) > 20  # an image, not one colour
    page.mouse.move(5, 5)
    assert card.is_hidden()


def test_the_keyboard_goes_from_image_to_image(watched: Watched) -> None:
    page = watched.page
    page.locator(".places").first.focus()
    seen = []
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"):
        page.keyboard.press(key)
        seen.append(page.locator(".pt.on").first.get_attribute("data-cell"))
    assert len(set(seen)) >= 3
    page.keyboard.press("Escape")
    assert page.locator(".card").first.is_hidden()


def test_filters_leave_what_fits(watched: Watched) -> None:
    page = watched.page
    run = page.locator("[data-run]").first
    count, on = run.locator("output"), run.locator(".pt:not(.off)")
    every = len(CLASSES) * PER_CLASS
    assert count.inner_text() == f"{every} of {every} images on the map"
    for name in CLASSES:
        run.locator("[data-by=label]").select_option(printable(name))
        assert on.count() == PER_CLASS
        assert set(on.evaluate_all("all => all.map((p) => p.dataset.label)")) == {printable(name)}
        visible = run.locator("figure[data-label]:visible")
        labels = visible.evaluate_all("all => all.map((f) => f.dataset.label)")
        assert set(labels) <= {printable(name)}
    run.locator("[data-by=answer]").select_option("wrong")
    assert on.count() == run.locator(".pt.wrong:not(.off)").count() <= PER_CLASS
    run.locator("button").click()
    assert on.count() == every
    run.locator("[data-by=name]").fill("<IMG SRC=X")
    assert on.count() == PER_CLASS + len(CLASSES) - 1  # all of one class, one file of each other
    run.locator("[data-by=name]").fill("no such name")
    assert count.inner_text() == f"0 of {every} images on the map"


@pytest.mark.parametrize("which", ["report", "joined"])
def test_a_phone_paper_the_dark_and_no_scripts(
    browser: Any, pages: dict[str, Path], which: str, tmp_path: Path
) -> None:
    phone = Watched(
        browser,
        pages[which],
        viewport={"width": 360, "height": 740},
        color_scheme="dark",
        has_touch=True,
    )
    assert phone.page.evaluate("document.documentElement.scrollWidth") <= 360
    ground = "getComputedStyle(document.body).backgroundColor"
    assert phone.page.evaluate(ground) == "rgb(20, 24, 27)"
    point = phone.page.locator(".pt.wrong").first
    point.scroll_into_view_if_needed()
    point.tap(force=True)
    assert phone.page.locator(".card").first.is_visible()
    folder = Path(os.environ.get("FEATX_SCREENSHOTS", tmp_path))
    phone.page.screenshot(path=folder / f"{which}-phone.png", full_page=True)
    phone.page.emulate_media(media="print")
    assert phone.page.evaluate(ground) == "rgb(255, 255, 255)"
    assert phone.page.locator("nav").is_hidden()
    plain = Watched(browser, pages[which], java_script_enabled=False)
    assert plain.page.locator(".filters").first.is_hidden()
    assert "right" in plain.page.inner_text("main")
    for one in (phone, plain):
        one.context.close()
        assert not one.wrong


def test_tables_show_that_they_go_on_and_the_menu_stays(
    browser: Any, pages: dict[str, Path]
) -> None:
    wide = Watched(browser, pages["report"], viewport={"width": 1400, "height": 900})
    narrow = Watched(browser, pages["report"], viewport={"width": 390, "height": 844})
    tables = "[...document.querySelectorAll('.wide')]"
    over = f"{tables}.filter((e) => e.scrollWidth > e.clientWidth + 1)"
    for one in (wide, narrow):
        one.page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    # Names of 200 letters make the confusions wider than any page.
    found = wide.page.evaluate(f"{over}.map((e) => e.ariaLabel)")
    assert [name for name in found if not name.startswith("Confusion matrix")] == []
    assert "Results of every method" in narrow.page.evaluate(f"{over}.map((e) => e.ariaLabel)")
    # The name of the row stays in sight while the rest is scrolled; the far edge is shaded.
    cell = narrow.page.locator("#results tbody th").first
    before = cell.bounding_box()["x"]
    narrow.page.evaluate(f"{tables}.forEach((e) => {{ e.scrollLeft = 200; }})")
    assert cell.bounding_box()["x"] == before
    shades = narrow.page.evaluate(f"getComputedStyle({tables}[0]).backgroundAttachment")
    assert shades == "local, local, scroll, scroll"
    for one in (wide, narrow):
        one.page.evaluate("window.scrollTo({top: 2500, behavior: 'instant'})")
        assert one.page.locator("nav").bounding_box()["y"] == 0
        one.context.close()
        assert not one.wrong
