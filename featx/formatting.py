"""How numbers and names are written: percent, seconds, and text that is safe to display."""

from __future__ import annotations

import difflib
import math
import re
import unicodedata
from collections.abc import Iterable

MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"
LABELS = {
    "logistic": "logistic regression",
    "ridge": "ridge regression",
    "mlp": "multi-layer perceptron",
    "xgboost": "XGBoost",
    "dense": "dense Keras head on features",
    "nearest": "nearest neighbours",
    "linear_svm": "linear SVM",
    "keras_baseline": "Keras baseline",
}


def label(method: str) -> str:
    """Return a method's name in words, or the name itself."""
    return LABELS.get(method, method)


def capitalized(text: str) -> str:
    """Return text with its first letter in upper case, the others as they are."""
    return text[:1].upper() + text[1:]


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return " Did you mean 'x'?" for the known name that is nearest; empty where none is near.

    Parameters
    ----------
    cutoff : float
        The least likeness, 0 to 1, as `difflib.get_close_matches` has it.

    >>> did_you_mean("logistik", ["nearest", "logistic"])
    " Did you mean 'logistic'?"
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f" Did you mean {close[0]!r}?" if close else ""


def percent(value: float | None, digits: int = 1) -> str:
    """Return a share as a percentage.

    >>> percent(0.848)
    '84.8 %'
    """
    return DASH if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f} %"


def points(value: float) -> str:
    """Return a difference of shares in signed percentage points.

    >>> points(0.012)
    '+1.2'
    """
    shown = f"{100 * abs(value):.1f}"
    if shown == "0.0":
        return "0.0"
    return f"{'+' if value > 0 else MINUS}{shown}"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with `digits` decimals, or a dash where there is none."""
    return DASH if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def pace(value: float) -> str:
    """Return images/s; below 10 with one decimal.

    >>> pace(1234.5), pace(0.42)
    ('1,234', '0.4')
    """
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.1f}"


def seconds(value: float | None) -> str:
    """Return a duration with about two significant digits, in the unit a reader would use.

    >>> seconds(0.0123), seconds(7.26), seconds(66.2), seconds(754)
    ('0.01 s', '7.3 s', '66 s', '12 min 34 s')
    """
    if value is None or not math.isfinite(value):
        return DASH
    if 0 < value < 0.005:
        return "< 0.01 s"
    if value < 0.995:
        return f"{value:.2f} s"
    if value < 9.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def file_size(count: int) -> str:
    """Return a number of bytes in the unit a reader would use.

    >>> file_size(1_234_567), file_size(3_210_000_000)
    ('1.2 MB', '3.2 GB')
    """
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def times(value: float | None) -> str:
    """Return a ratio.

    >>> times(6.98), times(28.6)
    ('7.0', '29')
    """
    if value is None or not math.isfinite(value):
        return DASH
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def epochs(value: float | None) -> str:
    """Return a number of epochs, which need not be whole where it is a mean.

    >>> epochs(1), epochs(8), epochs(7.4321)
    ('1 epoch', '8 epochs', '7.43 epochs')
    """
    return f"{DASH} epochs" if value is None else f"{value:.3g} epoch{'' if value == 1 else 's'}"


def counted(n: int, one: str, many: str) -> str:
    """Return a count with its noun.

    >>> counted(1, "pair", "pairs"), counted(1200, "pair", "pairs")
    ('1 pair', '1,200 pairs')
    """
    return f"{n:,} {one if n == 1 else many}"


def p_value(value: float) -> str:
    """Return a p-value as `= 0.56` or `< 0.001`."""
    if value < 0.001:
        return "< 0.001"
    return f"= {value:.3f}" if value < 0.1 else f"= {value:.2f}"


def printable(text: str, *, multiline: bool = False) -> str:
    r"""Return text that a page can hold and that neither a page nor a terminal obeys.

    Control characters, lone surrogates (a file name that is not UTF-8) and bidirectional overrides
    become visible escapes; letters of every script stay as they are, and with `multiline` line
    breaks, too.

    >>> print(printable("a\x00b\u202ec"))
    a\x00b\u202ec
    """
    return "".join(char if multiline and char == "\n" else _visible(char) for char in text)


def shortened(text: str, most: int = 40) -> str:
    """Return printable text of at most so many characters, its middle left out.

    >>> shortened("a name that goes on and on", 11)
    'a nam…nd on'
    """
    shown = printable(text)
    half = (most - 1) // 2
    return shown if len(shown) <= most else f"{shown[: most - 1 - half]}…{shown[-half:]}"


def _visible(char: str) -> str:
    # Cf holds the bidirectional controls, but also the joiner inside emoji and Indic words.
    kind = unicodedata.category(char)
    if kind in {"Cc", "Cs", "Zl", "Zp"} or (kind == "Cf" and char not in "\u200c\u200d"):
        return char.encode("unicode_escape").decode("ascii")
    return char


# Backslash escapes are defined for these; &, < and > need entities.
_MARKED = re.compile(r"([\\`*_{}\[\]#!|~$])")
# GitHub looks for these in the text that it shows, so neither an escape nor an entity hides them:
# a mention, an issue, an address with and without its scheme. An unseen joiner after them does.
_LIVE = re.compile(r"(@|#|gh-(?=\d)|:(?=//)|www(?=\.))", re.IGNORECASE)


def markdown(text: str) -> str:
    r"""Return text that GitHub's Markdown shows as it is, without links or mentions.

    >>> print(markdown("a|b <img> @you #1"))
    a\|b &lt;img&gt; @&zwj;you \#&zwj;1
    """
    plain = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _LIVE.sub(r"\1&zwj;", _MARKED.sub(r"\\\1", plain))
