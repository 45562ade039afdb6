"""The commands that inspect and maintain a cache: cache ls, verify, gc, compact."""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featx.cli.options import Cache, WeightsFile
from featx.cli.terminal import make_table, print_line, print_message, print_table
from featx.errors import CacheCorruptWarning, CacheError, FeatxError
from featx.formatting import file_size

if TYPE_CHECKING:
    from featx.cache.store import Store
    from featx.maintenance.inventory import CachedKey

app = typer.Typer(help="Inspect and maintain the cache.", no_args_is_help=True)


def _contents(cache: Path | None) -> tuple[Path | None, list[CachedKey]]:
    """Return the cache folder and what is cached in it; print a line if that is nothing."""
    from featx.cache.location import chosen, existing_root
    from featx.maintenance.inventory import list_keys

    root = existing_root(cache)
    stock = list_keys(root) if root is not None else []
    if not stock:
        print_line(f"Nothing is cached in {root or chosen(cache)}")
    return root, stock


def _usable(stock: Iterable[CachedKey]) -> Iterable[tuple[CachedKey, Store]]:
    for entry in stock:
        if entry.store is None:
            print_message(f"{entry.folder}: {entry.problem}.")
        else:
            yield entry, entry.store


@app.command("ls")
def ls(cache: Cache = None) -> None:
    """List what is cached and what computed it: one line per network and options."""
    from featx.maintenance.inventory import environment_of, options_of

    root, stock = _contents(cache)
    listing = make_table("key", "network", "options")
    for name in ("embeddings", "MB", "used"):
        listing.add_column(name, justify="right")
    lines = []
    for entry, store in _usable(stock):
        key = store.key[:8]
        listing.add_row(
            key,
            str(store.spec["backbone"]),
            options_of(store.spec),
            f"{entry.embeddings:,}",
            f"{entry.bytes / 1e6:,.1f}",
            _day(entry.last_used),
        )
        lines += [f"{key} computed by {environment_of(one)}" for one in entry.environments]
        if entry.bad:
            lines.append(f"{key} also records {entry.bad:,} images that cannot be used")
    if listing.row_count:
        print_table(listing)
        for line in lines:
            print_line(line)
        print_line(f"In {root}: {file_size(sum(entry.bytes for entry in stock))}")


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(seconds)) if seconds else "unknown"


@app.command("verify")
def verify(
    dataset: Annotated[
        str | None,
        typer.Argument(help="Where the images are, for --recompute; by default as last read."),
    ] = None,
    recompute: Annotated[
        int, typer.Option(min=0, help="Also recompute this many embeddings per network.")
    ] = 0,
    weights: WeightsFile = None,
    seed: Annotated[
        int | None, typer.Option(help="Selects the same embeddings again; printed by each run.")
    ] = None,
    cache: Cache = None,
) -> None:
    """Compare every cached byte with its checksum; quarantine damaged shards.

    Exit code 1: something was damaged, a recomputed embedding differs, or --recompute found no
    embedding of a network that it could recompute.
    """
    with warnings.catch_warnings():  # what is damaged is listed below
        warnings.simplefilter("ignore", CacheCorruptWarning)
        root, stock = _contents(cache)
        sound = all([_verify(entry) for entry in stock])
    if recompute and root is not None:
        seed = random.randrange(10_000) if seed is None else seed
        print_line(f"Embeddings to recompute are selected by --seed {seed}")
        sources = _sources(root, dataset)
        for entry in stock:
            if entry.store is not None and entry.embeddings:
                sound &= _recompute(entry.store, sources, recompute, seed, weights)
    if not sound:
        raise typer.Exit(1)


def _verify(entry: CachedKey) -> bool:
    """Check every shard of one key, print the result and return whether all are sound."""
    if entry.store is None:
        print_message(f"{entry.folder}: {entry.problem}.")
        return False
    store, name = entry.store, _name(entry.store)
    try:
        store.verify()
    except CacheError as error:
        print_message(f"{name}: {error}", style="red")
        return False
    found = len(store.damaged)
    print_line(f"{name}: {len(store.index.shards):,} shards intact, {found:,} damaged")
    for shard, reason in store.damaged.items():
        print_line(f"  {shard}: {reason}" + "; cannot be quarantined" * (shard in store.ignored))
    if found > len(store.ignored):
        print_line("  quarantined; the next extraction computes their embeddings again")
    return not found


def _name(store: Store) -> str:
    return f"{store.key[:8]} {store.spec['backbone']}"


def _sources(root: Path, dataset: str | None) -> dict[bytes, Path]:
    """Return content hash -> path of the images that can be read again."""
    from featx.cache import stat_index
    from featx.datasets.dataset import as_dataset
    from featx.errors import ImageError
    from featx.images import content_hash, decoding

    sources = stat_index.known_sources(root)
    for item in as_dataset(dataset, label_column=None) if dataset is not None else ():
        if isinstance(item.source, Path):
            try:
                sources[content_hash.of_content(decoding.read(item.source))] = item.source
            except ImageError:
                continue
    return sources


def _recompute(
    store: Store, sources: dict[bytes, Path], count: int, seed: int, weights: Path | None
) -> bool:
    """Recompute embeddings of one key and print the result; return whether all agree."""
    from featx.maintenance import recompute

    name = _name(store)
    try:
        backbone = recompute.backbone_of(store, None if weights is None else str(weights))
        done = recompute.recompute(store, backbone, sources, count, seed)
    except FeatxError as error:
        print_message(f"{name}: no embedding was recomputed: {error}", style="red")
        return False
    lacking = (
        f"the images of {done.cached - done.known:,} embeddings are unknown"
        + (f", {done.changed:,} are missing or changed" if done.changed else "")
        + "; name their folder: featx cache verify FOLDER --recompute N"
    )
    if done.cached and not done.compared:
        print_message(
            f"{name}: none of {done.cached:,} embeddings was recomputed: {lacking}", style="red"
        )
        return False
    print_line(
        f"{name}: {done.compared:,} of {done.cached:,} embeddings recomputed, "
        f"{len(done.different):,} differ; largest relative distance {done.worst:.1e} "
        f"({done.tolerance:g} is allowed)"
    )
    for path, distance in done.different:
        print_line(f"  {path}: {distance:.1e}")
    if done.compared < min(count, done.cached):
        print_line(f"  {lacking}")
    return not done.different


@app.command("gc")
def gc(
    unused_days: Annotated[
        float | None,
        typer.Option(min=0, help="Also remove networks not used by an extraction for this long."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    cache: Cache = None,
) -> None:
    """Remove temporary files of killed processes, damaged shards, and networks long unused.

    Lists first what would be removed, and asks.
    """
    from featx.cache.location import chosen, existing_root
    from featx.maintenance import gc

    root = existing_root(cache)
    pieces = gc.find(root, unused_days) if root is not None else []
    if root is None or not pieces:
        print_line(f"Nothing to remove in {root or chosen(cache)}")
        return
    listing = make_table("what")
    listing.add_column("count", justify="right")
    listing.add_column("MB", justify="right")
    for what in dict.fromkeys(piece.what for piece in pieces):
        sizes = [piece.bytes for piece in pieces if piece.what == what]
        listing.add_row(what, f"{len(sizes):,}", f"{sum(sizes) / 1e6:,.1f}")
    print_table(listing)
    for piece in pieces:
        print_line(f"  {piece.path.relative_to(root)}")
    total = file_size(sum(piece.bytes for piece in pieces))
    if not yes and not typer.confirm(f"Remove these from {root} ({total})?"):
        print_line("Nothing was removed.")
        return
    freed, refused = gc.remove(root, pieces)
    print_line(f"Freed {file_size(freed)}")
    for sentence in refused:
        print_message(sentence)
    if refused:
        raise typer.Exit(1)


@app.command("compact")
def compact(
    grace: Annotated[
        float,
        typer.Option(min=0, help="Seconds to keep the replaced files for other readers."),
    ] = 30.0,
    cache: Cache = None,
) -> None:
    """Merge small shards into large ones; every embedding stays as it is.

    Other processes may go on reading and writing.
    """
    from featx.maintenance import compaction

    _, stock = _contents(cache)
    failed = False
    for _, store in _usable(stock):
        name = _name(store)

        def wait(seconds: float, name: str = name) -> None:
            if seconds:
                print_message(f"{name}: merged; the old files are removed in {seconds:g} s")
                time.sleep(seconds)

        try:
            store.verify()  # damaged shards are quarantined and not merged
            done = compaction.compact(store, grace=grace, sleep=wait)
        except CacheError as error:
            print_message(f"{name}: {error}", style="red")
            failed = True
            continue
        print_line(
            f"{name}: {done.published:,} shards written, {done.removed:,} removed, "
            f"{done.shards:,} in total"
        )
    if failed:
        raise typer.Exit(1)
