"""What `featx --help` shows besides the options: the order of work, and examples of each command.

`tests/test_docs.py` checks the examples against the options, and the page of the documentation on
the command line shows them.
"""

from __future__ import annotations

HEADINGS = {
    "First": ("demo", "doctor", "backbones"),
    "Extract, train, use": ("extract", "train", "predict", "evaluate", "serve", "export"),
    "Compare": ("benchmark", "report"),
    "Look at what is there": ("info", "cache"),
}

EXAMPLES = {
    "demo": ("featx demo", "featx demo --out pipes-demo"),
    "doctor": ("featx doctor", "featx doctor cache --json"),
    "backbones": ("featx backbones", "featx backbones efficientnet --sort size --on-disk"),
    "extract": (
        "featx extract flowers/train -b mobilenet_v2",
        "featx extract labels.csv -b resnet50 --label-column species --out features.h5",
        "featx extract flowers/train -b mobilenet_v2 --dry-run",
    ),
    "train": (
        "featx train flowers/train -b mobilenet_v2 --test flowers/test --out model.featx",
        "featx train flowers/train -b mobilenet_v2 --head ridge --class-weight balanced -o m.featx",
    ),
    "predict": (
        "featx predict model.featx flowers/test --top 2",
        "featx predict model.featx flowers/test --on-error skip --out answers.csv",
        "featx predict model.featx flowers/test --explain explained",
    ),
    "evaluate": ("featx evaluate model.featx flowers/test --out evaluation",),
    "serve": ("featx serve model.featx", "featx serve model.featx --host 0.0.0.0 --port 80"),
    "export": ("featx export model.featx model.onnx", "featx export model.featx model.tflite"),
    "benchmark": (
        "featx benchmark flowers/train --test flowers/test -b mobilenet_v2 --out report",
        "featx benchmark flowers/train -b mobilenet_v2 --no-baseline --head logistic -o quick",
    ),
    "report": ("featx report report", "featx report report quick --out comparison"),
    "info": ("featx info model.featx", "featx info report --json"),
    "cache ls": ("featx cache ls", "featx cache ls --json"),
    "cache verify": ("featx cache verify", "featx cache verify flowers/train --recompute 20"),
    "cache gc": ("featx cache gc", "featx cache gc --unused-days 90 --yes"),
    "cache compact": ("featx cache compact",),
}

FIRST = (
    "FEATX_BACKBONE, FEATX_WEIGHTS, FEATX_CACHE and other variables named in the help of a command "
    "set an option once for all commands; FEATX_CACHE is read by Python, too. FEATX_NETWORKS names "
    "the folder in which converted networks are kept for all caches, or is none."
)


def epilog(command: str) -> str:
    """Return the examples of a command as they stand below its help."""
    return "\n\n".join(["Examples:", *EXAMPLES[command]])
