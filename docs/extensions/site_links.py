"""After a build: every link of the site that stays inside it leads to a file and to a place in it.

A link that leads nowhere is an error of the build, as a warning is with `-W`.
"""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sphinx.errors import ExtensionError


class _Page(HTMLParser):
    """The ids of a page, and what it refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name in ("id", "name"):
                self.ids.add(value)
            elif value and name in ("href", "src"):
                self.links.add(value)


def dead_links(site: Path) -> list[str]:
    """Return "page -> link" of each link inside a built site that leads nowhere."""
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    pages = {path: page for path, page in pages.items() if "_static" not in path.parts}  # templates
    dead = []
    for path, page in sorted(pages.items()):
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
            if target.is_dir():
                target /= "index.html"
            fragment = unquote(parts.fragment)
            known = pages[target].ids if target in pages else None
            if not target.exists() or (fragment and known is not None and fragment not in known):
                dead.append(f"{path.relative_to(site)} -> {link}")
    return dead


def _check(app: Any, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        dead = dead_links(Path(app.outdir).resolve())
        if dead:
            raise ExtensionError("links that lead nowhere:\n  " + "\n  ".join(dead))


def setup(app: Any) -> dict[str, Any]:
    """Check the links when the build has finished."""
    app.connect("build-finished", _check, priority=900)  # after the files of others are copied
    return {"parallel_read_safe": True, "parallel_write_safe": True}
