"""The commands that look after a cache and a machine: cache ls, verify, gc, compact; doctor."""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featx.cli.terminal import say, show, table, tell
from featx.errors import CacheCorruptWarning, CacheError, FeatxError
from featx.images import content_hash

if TYPE_CHECKING:
    from featx.cache.store import Store
    from featx.maintenance.inventory import CachedKey

app = typer.Typer(help="Look at and look after the rows that are kept.", no_args_is_help=True)

Cache = Annotated[
    Path | None,
    typer.Option(help="Folder of kept rows; $FEATX_CACHE or the user's cache folder if not given."),
]


def _stock(cache: Path | None) -> tuple[Path | None, list[CachedKey]]:
    """Return the cache folder and what it keeps; say so where there is nothing."""
    from featx.cache.location import chosen, existing_root
    from featx.maintenance.inventory import list_keys

    root = existing_root(cache)
    stock = list_keys(root) if root is not None else []
    if not stock:
        say(f"Nothing is kept in {root or chosen(cache)}")
    return root, stock


def _usable(stock: Iterable[CachedKey]) -> Iterable[CachedKey]:
    for kept in stock:
        if kept.store is None:
            tell(f"{kept.folder}: {kept.problem}.")
        else:
            yield kept


@app.command("ls")
def ls(cache: Cache = None) -> None:
    """List what is kept, with what computed it: one entry a network with its options."""
    from featx.maintenance.inventory import environment_of, options_of

    root, stock = _stock(cache)
    listing = table("key", "network", "options")
    for name in ("rows", "MB", "used"):
        listing.add_column(name, justify="right")
    computed = []
    for kept in _usable(stock):
        assert kept.store is not None
        spec = kept.store.spec
        listing.add_row(
            kept.store.key[:8],
            str(spec["backbone"]),
            options_of(spec),
            f"{kept.embeddings:,}",
            f"{kept.bytes / 1e6:,.1f}",
            _day(kept.last_used),
        )
        computed += [f"{kept.store.key[:8]} computed by {environment_of(e)}" for e in
                     kept.environments]  # fmt: skip
        if kept.bad:
            computed.append(f"{kept.store.key[:8]} and {kept.bad:,} images known to be bad")
    if listing.row_count:
        show(listing)
        for line in computed:
            say(line)
        total = sum(kept.bytes for kept in stock)
        say(f"In {root}: {total / 1e6:,.1f} MB")


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(seconds)) if seconds else "unknown"


@app.command("verify")
def verify(
    ctx: typer.Context,
    dataset: Annotated[
        str | None,
        typer.Argument(help="Where the images are, for --recompute; else those last read."),
    ] = None,
    recompute: Annotated[
        int, typer.Option(min=0, help="Also compute so many rows of each network again.")
    ] = 0,
    weights: Annotated[
        str | None, typer.Option(help="The weights file, where they are not Keras's own.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Draws the same rows again; printed at each run.")
    ] = None,
    cache: Cache = None,
) -> None:
    """Read every kept byte and compare it with its checksum; set damaged shards aside.

    Exit code 1: something was damaged, a row is not what its image gives, or no row of a network
    could be computed again although --recompute asked for it.
    """
    with warnings.catch_warnings():  # what is damaged is listed below
        warnings.simplefilter("ignore", CacheCorruptWarning)
        root, stock = _stock(cache)
        sound = all([_verify(kept) for kept in stock])
    if recompute and root is not None:
        seed = random.randrange(10_000) if seed is None else seed
        say(f"Rows are drawn with --seed {seed}")
        sources = _sources(root, dataset)
        for kept in stock:
            if kept.store is not None and kept.embeddings:
                sound &= _recompute(kept.store, sources, recompute, seed, weights)
    if not sound:
        raise typer.Exit(1)


def _verify(kept: CachedKey) -> bool:
    """Check every shard of one key and say what came of it; False where one was damaged."""
    if kept.store is None:
        tell(f"{kept.folder}: {kept.problem}.")
        return False
    store, name = kept.store, _name(kept.store)
    try:
        store.verify()
    except CacheError as error:
        tell(f"{name}: {error}", style="red")
        return False
    found = len(store.damaged)
    say(f"{name}: {len(store.index.shards):,} shards whole, {found:,} damaged")
    for shard, reason in store.damaged.items():
        say(f"  {shard}: {reason}" + ("; cannot be moved away" * (shard in store.ignored)))
    if found > len(store.ignored):
        say("  set aside; the next extraction computes their rows again")
    return not found


def _name(store: Store) -> str:
    return f"{store.key[:8]} {store.spec['backbone']}"


def _sources(root: Path, dataset: str | None) -> dict[bytes, Path]:
    from featx.cache import stat_index
    from featx.datasets.dataset import as_dataset
    from featx.errors import ImageError
    from featx.images import decoding

    sources = stat_index.known_sources(root)
    for item in as_dataset(dataset, label_column=None) if dataset is not None else ():
        if isinstance(item.source, Path):
            try:
                sources[content_hash.of_content(decoding.read(item.source))] = item.source
            except ImageError:
                continue
    return sources


def _recompute(
    store: Store, sources: dict[bytes, Path], count: int, seed: int, weights: str | None
) -> bool:
    """Compute rows of one key again and say what came of it; False where one differs or none is."""
    from featx.maintenance import recompute

    name = _name(store)
    try:
        backbone = recompute.backbone_of(store, weights)
        done = recompute.recompute(store, backbone, sources, count, seed)
    except FeatxError as error:
        tell(f"{name}: no row was computed again: {error}", style="red")
        return False
    lacking = (
        f"the images of {done.cached - done.known:,} rows are not known"
        + (f", {done.changed:,} are gone or changed" if done.changed else "")
        + "; name their folder: featx cache verify FOLDER --recompute N"
    )
    if done.cached and not done.compared:
        tell(f"{name}: no row was computed again of {done.cached:,}: {lacking}", style="red")
        return False
    say(
        f"{name}: {done.compared:,} of {done.cached:,} rows computed again, "
        f"{len(done.different):,} differ; largest relative distance {done.worst:.1e} "
        f"({done.tolerance:g} is allowed)"
    )
    for path, distance in done.different:
        say(f"  {path}: {distance:.1e}")
    if done.compared < min(count, done.cached):
        say(f"  {lacking}")
    return not done.different


@app.command("gc")
def gc(
    unused_days: Annotated[
        float | None,
        typer.Option(min=0, help="Also remove networks that no extraction used for so long."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    cache: Cache = None,
) -> None:
    """Remove temporary files of killed processes, damaged shards, and networks long unused.

    Shows first what would go, and asks.
    """
    from featx.cache.location import chosen, existing_root
    from featx.maintenance import gc

    root = existing_root(cache)
    pieces = gc.find(root, unused_days) if root is not None else []
    if root is None or not pieces:
        say(f"Nothing to remove in {root or chosen(cache)}")
        return
    listing = table("what")
    listing.add_column("count", justify="right")
    listing.add_column("MB", justify="right")
    for what in dict.fromkeys(piece.what for piece in pieces):
        sizes = [piece.bytes for piece in pieces if piece.what == what]
        listing.add_row(what, f"{len(sizes):,}", f"{sum(sizes) / 1e6:,.1f}")
    show(listing)
    for piece in pieces:
        say(f"  {piece.path.relative_to(root)}")
    total = sum(piece.bytes for piece in pieces)
    if not yes and not typer.confirm(f"Remove these from {root} ({total / 1e6:,.1f} MB)?"):
        say("Nothing was removed.")
        return
    freed, refused = gc.remove(root, pieces)
    say(f"Freed {freed / 1e6:,.1f} MB")
    for sentence in refused:
        tell(sentence)
    if refused:
        raise typer.Exit(1)


@app.command("compact")
def compact(
    grace: Annotated[
        float,
        typer.Option(min=0, help="Seconds that the replaced files stay for processes that read."),
    ] = 30.0,
    cache: Cache = None,
) -> None:
    """Merge small files of rows into large ones; every row stays as it is.

    Other processes may go on reading and writing.
    """
    from featx.maintenance import compaction

    _, stock = _stock(cache)
    failed = False
    for kept in _usable(stock):
        assert kept.store is not None
        name = _name(kept.store)

        def wait(seconds: float, name: str = name) -> None:
            if seconds:
                tell(f"{name}: merged; the old files go in {seconds:g} s")
                time.sleep(seconds)

        try:
            kept.store.verify()  # what is damaged is set aside and not merged
            done = compaction.compact(kept.store, grace=grace, sleep=wait)
        except CacheError as error:
            tell(f"{name}: {error}", style="red")
            failed = True
            continue
        say(
            f"{name}: {done.published:,} files written, {done.removed:,} removed, "
            f"{done.shards:,} there now"
        )
    if failed:
        raise typer.Exit(1)
