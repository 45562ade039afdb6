"""Before a build: the pages and plots that are made, not written.

The papers of the project with their links turned to the site's pages, the help of every command,
the blocks that are not run, and a real report with the plot of its cost curve.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent.parent
ROOT = DOCS.parent
MADE = DOCS / "generated"
DEMO = DOCS / "_build" / "demo"

PAPERS = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
PAPERS |= {"SECURITY.md": "security-policy.md"}

NOT_RUN = re.compile(
    r"^`{3,}\{code-block\} (?P<language>\w+)\n(?::\w+:.*\n)*?:caption: (?P<why>Not run here.*)\n",
    re.MULTILINE,
)


def write_papers() -> None:
    """Copy the papers of the project's root; their links lead to pages of the site."""
    for name, page in PAPERS.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        for other, its_page in PAPERS.items():
            text = text.replace(f"]({other}", f"]({its_page}")
        text = text.replace("](docs/ARCHITECTURE.md", "](../ARCHITECTURE.md")
        text = re.sub(r"\]\((?:cache/README\.md|LICENSE)\)", "]", text)
        _write(page, text)


def write_commands() -> None:
    """Write the help of every command as its own program prints it."""
    from typer.testing import CliRunner

    from featx.cli import app
    from featx.cli.examples import EXAMPLES

    # Wide enough that no option is broken; without colours whatever the terminal is.
    runner = CliRunner(env={"COLUMNS": "110", "NO_COLOR": "1", "TERM": "dumb"})
    parts = [
        "# Every command",
        "The help as `featx COMMAND --help` prints it, made with this site.",
    ]
    for command in ("", *EXAMPLES):
        words = command.split()
        answer = runner.invoke(app.app, [*words, "--help"], prog_name="featx")
        lines = [line.rstrip() for line in answer.output.strip().splitlines()]
        parts += [f"## featx {command}".rstrip(), "```text\n" + "\n".join(lines) + "\n```"]
    _write("commands.md", "\n\n".join(parts) + "\n")


def blocks_not_run(folder: Path = DOCS) -> list[tuple[str, str, str]]:
    """Return (page, language, reason) of every block that no test and no build runs."""
    found = []
    for path in sorted(folder.rglob("*.md")):
        name = path.relative_to(folder).as_posix()
        if not name.startswith(("_build", "generated")):
            text = path.read_text(encoding="utf-8")
            found += [(name, one["language"], one["why"]) for one in NOT_RUN.finditer(text)]
    return found


def write_not_run() -> None:
    """Write the list of blocks that are not run, with their number."""
    found = blocks_not_run()
    rows = [f"| [{page}](../{page}) | {language} | {why} |" for page, language, why in found]
    _write(
        "not-run.md",
        "# What is not run\n\n"
        "Every block of Python and every command of `featx` on these pages is run by "
        "`tests/test_site.py` (the long form, `nox -s docs`), and every example of the gallery "
        "when the site is built. "
        f"**{len(found)} blocks are not**: they need another library, a download, a cluster or a "
        "GPU. Each says so above it.\n\n"
        "| page | language | what it says |\n|---|---|---|\n" + "\n".join(rows) + "\n",
    )


def make_report() -> None:
    """Run the demonstration, unless its report is there, and draw its cost curve."""
    from featx import demo

    if not (DEMO / "report" / "report.json").is_file():
        # FEATX_DOCS_IMAGES: fewer for a quick look at the site.
        images = int(os.environ.get("FEATX_DOCS_IMAGES", "60"))
        demo.run(DEMO, n_per_class=images, progress=False)
    document = json.loads((DEMO / "report" / "report.json").read_text(encoding="utf-8"))
    draw_costs(document, MADE / "cost-curve.svg")
    _write("demo.md", demo_in_words(document))


def demo_in_words(document: dict[str, Any]) -> str:
    """Return what the landing page says of the report that it links."""
    images = document["images"]
    trained = sum(images["n_train"].values())
    tested = sum(images["n_test"].values())
    untrained = any(one["untrained"] for one in document["extractions"])
    weights = (
        "The network had random weights, since none could be fetched where this site was built: "
        "the seconds are real, and the accuracy says nothing of what this network can do."
        if untrained
        else "The network had ImageNet weights."
    )
    return (
        f"`featx demo` on {trained} + {tested} drawn images of pipes, "
        f"{document['created'][:10]}. {weights}\n"
    )


def draw_costs(document: dict[str, Any], target: Path) -> None:
    """Draw seconds over the number of trainings, for the verdict's head and the baseline."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    from featx.evaluation.report import wording

    head = wording.subject(document)
    baseline = next(one for one in document["methods"] if one["kind"] == "baseline")
    times = range(1, 11)
    grey = "#808080"  # readable on light and dark
    figure, axes = pyplot.subplots(figsize=(6.4, 3.4))
    for one, colour, name in (
        (baseline, "#d1495b", "Keras head, every image through the network in every epoch"),
        (head, "#2a7fba", f"featx: extraction once, then {head['method']}"),
    ):
        each = one["cost"]["each"]
        seconds = [one["cost"]["total"] + (number - 1) * each for number in times]
        axes.plot(times, seconds, marker="o", color=colour, label=name)
    axes.set_xlabel("trainings (heads, folds, settings tried)", color=grey)
    axes.set_ylabel("seconds in all", color=grey)
    axes.set_ylim(0, 1.25 * axes.get_ylim()[1])  # room for the legend above the lines
    axes.tick_params(colors=grey)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(grey)
    axes.legend(frameon=False, labelcolor=grey)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, transparent=True, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)


def _write(name: str, text: str) -> None:
    MADE.mkdir(exist_ok=True)
    path = MADE / name
    if not path.is_file() or path.read_text(encoding="utf-8") != text:  # else it is read again
        path.write_text(text, encoding="utf-8")


def _before(app: Any) -> None:
    write_papers()
    write_commands()
    write_not_run()
    make_report()


def _after(app: Any, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        shutil.copytree(DEMO / "report", Path(app.outdir) / "demo-report", dirs_exist_ok=True)


def setup(app: Any) -> dict[str, Any]:
    """Make the pages before anything is read, and copy the report after all is written."""
    app.connect("builder-inited", _before, priority=100)
    app.connect("build-finished", _after, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
