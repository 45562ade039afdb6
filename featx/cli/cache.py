"""The commands that inspect and maintain a cache: cache ls, verify, gc, compact."""

from __future__ import annotations

import dataclasses
import random
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featx.cli.examples import epilog
from featx.cli.options import AsJson, Cache, WeightsFile
from featx.cli.terminal import make_table, print_json, print_line, print_message, print_table
from featx.errors import CacheCorruptWarning, CacheError, FeatxError
from featx.formatting import file_size

if TYPE_CHECKING:
    from featx.cache.store import Store
    from featx.maintenance.inventory import CachedKey
    from featx.runtimes.networks import Kept
    from featx.storage.interface import Storage

app = typer.Typer(help="Inspect and maintain the cache.", no_args_is_help=True)


def _contents(cache: str | None, as_json: bool = False) -> tuple[Storage | None, list[CachedKey]]:
    """Return the cache and what is cached in it; print a line if that is nothing."""
    from featx.cache.location import chosen, existing_cache
    from featx.maintenance.inventory import list_keys

    place = existing_cache(cache)
    stock = list_keys(place) if place is not None else []
    if not stock and not as_json:
        print_line(f"Nothing is cached in {chosen(cache)}")
    return place, stock


def _where(place: Storage | None) -> str | None:
    return None if place is None else place.location("")


def _usable(stock: Iterable[CachedKey]) -> Iterable[tuple[CachedKey, Store]]:
    for entry in stock:
        if entry.store is None:
            print_message(f"{entry.location}: {entry.problem}.")
        else:
            yield entry, entry.store


@app.command("ls", epilog=epilog("cache ls"))
def ls(as_json: AsJson = False, cache: Cache = None) -> None:
    """List what is cached and what computed it, and the networks that this machine keeps.

    One line per network and options.
    """
    from featx.maintenance.inventory import environment_of, options_of
    from featx.runtimes import networks

    place, stock = _contents(cache, as_json)
    kept = list(networks.list_kept())
    if as_json:
        found = {"folder": networks.existing_root(), "kept": [_kept_facts(one) for one in kept]}
        keys = [_facts(entry) for entry in stock]
        print_json({"cache": _where(place), "keys": keys, "networks": found})
        return
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
        print_line(f"In {_where(place)}: {file_size(sum(entry.bytes for entry in stock))}")
    if kept:
        listing = make_table("kept network", "options")
        for name in ("MB", "used"):
            listing.add_column(name, justify="right")
        for one in kept:
            listing.add_row(
                str(one.network.get("backbone", "unknown")),
                options_of(one.network),
                f"{one.bytes / 1e6:,.1f}",
                _day(one.last_used),
            )
        print_table(listing)
        size = file_size(sum(one.bytes for one in kept))
        print_line(f"In {kept[0].path.parent}, for all caches of this machine: {size}")


def _kept_facts(one: Kept) -> dict[str, Any]:
    from featx.maintenance.inventory import options_of

    return {
        "file": one.path.name,
        "network": one.network.get("backbone"),
        "options": options_of(one.network),
        "versions": one.versions,
        "bytes": one.bytes,
        "used": _day(one.last_used),
    }


def _facts(entry: CachedKey) -> dict[str, Any]:
    from featx.maintenance.inventory import options_of

    found: dict[str, Any] = {
        "folder": entry.folder.name,
        "bytes": entry.bytes,
        "used": _day(entry.last_used),
    }
    if entry.store is None:
        return {**found, "problem": entry.problem}
    return {
        **found,
        "key": entry.store.key,
        "network": entry.store.spec["backbone"],
        "options": options_of(entry.store.spec),
        "embeddings": entry.embeddings,
        "bad": entry.bad,
        "environments": entry.environments,
    }


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(seconds)) if seconds else "unknown"


@app.command("verify", epilog=epilog("cache verify"))
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
    as_json: AsJson = False,
    cache: Cache = None,
) -> None:
    """Compare every cached byte with its checksum; quarantine damaged shards.

    Exit code 1: something was damaged, a recomputed embedding differs, or --recompute found no
    embedding of a network that it could recompute.
    """
    with warnings.catch_warnings():  # what is damaged is listed below
        warnings.simplefilter("ignore", CacheCorruptWarning)
        place, stock = _contents(cache, as_json)
        facts = []
        for entry in stock:
            facts.append(_verified(entry))
            if not as_json:
                _print_verified(entry, facts[-1])
    if recompute and place is not None:
        seed = random.randrange(10_000) if seed is None else seed
        if not as_json:
            print_line(f"Embeddings to recompute are selected by --seed {seed}")
        sources = _sources(place.scratch, dataset)
        for entry, found in zip(stock, facts, strict=True):
            if entry.store is not None and entry.embeddings:
                done = _recomputed(entry.store, sources, recompute, seed, weights)
                found["recomputed"] = done
                if not as_json:
                    _print_recomputed(entry.store, done, recompute)
    sound = all(found["sound"] and found.get("recomputed", found)["sound"] for found in facts)
    if as_json:
        print_json({"cache": _where(place), "seed": seed, "sound": sound, "keys": facts})
    if not sound:
        raise typer.Exit(1)


def _verified(entry: CachedKey) -> dict[str, Any]:
    """Check every shard of one key; return what was found, and whether all are sound."""
    found: dict[str, Any] = {"folder": entry.folder.name, "sound": False}
    if entry.store is None:
        return {**found, "problem": entry.problem}
    store = entry.store
    found |= {"key": store.key, "network": store.spec["backbone"]}
    try:
        store.verify()
    except CacheError as error:
        return {**found, "problem": str(error)}
    found |= {"shards": len(store.index.shards), "damaged": dict(store.damaged)}
    return {**found, "left": sorted(store.ignored), "sound": not store.damaged}


def _print_verified(entry: CachedKey, found: dict[str, Any]) -> None:
    if entry.store is None:
        print_message(f"{entry.location}: {entry.problem}.")
        return
    name = _name(entry.store)
    if "problem" in found:
        print_message(f"{name}: {found['problem']}", style="red")
        return
    damaged = found["damaged"]
    print_line(f"{name}: {found['shards']:,} shards intact, {len(damaged):,} damaged")
    for shard, reason in damaged.items():
        print_line(f"  {shard}: {reason}" + "; cannot be quarantined" * (shard in found["left"]))
    if len(damaged) > len(found["left"]):
        print_line("  quarantined; the next extraction computes their embeddings again")


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


def _recomputed(
    store: Store, sources: dict[bytes, Path], count: int, seed: int, weights: Path | None
) -> dict[str, Any]:
    """Recompute embeddings of one key; return what was found, and whether all agree."""
    from featx.maintenance import recompute

    try:
        backbone = recompute.backbone_of(store, None if weights is None else str(weights))
        done = recompute.recompute(store, backbone, sources, count, seed)
    except FeatxError as error:
        return {"sound": False, "problem": str(error)}
    sound = bool(done.compared or not done.cached) and not done.different
    return {
        "sound": sound,
        **{name: getattr(done, name) for name in ("cached", "known", "compared", "changed")},
        "different": [[str(path), distance] for path, distance in done.different],
        "worst": done.worst,
        "tolerance": done.tolerance,
    }


def _print_recomputed(store: Store, done: dict[str, Any], count: int) -> None:
    name = _name(store)
    if "problem" in done:
        print_message(f"{name}: no embedding was recomputed: {done['problem']}", style="red")
        return
    cached, compared = done["cached"], done["compared"]
    lacking = (
        f"the images of {cached - done['known']:,} embeddings are unknown"
        + (f", {done['changed']:,} are missing or changed" if done["changed"] else "")
        + "; name their folder: featx cache verify FOLDER --recompute N"
    )
    if cached and not compared:
        print_message(f"{name}: none of {cached:,} embeddings was recomputed: {lacking}", "red")
        return
    print_line(
        f"{name}: {compared:,} of {cached:,} embeddings recomputed, "
        f"{len(done['different']):,} differ; largest relative distance {done['worst']:.1e} "
        f"({done['tolerance']:g} is allowed)"
    )
    for path, distance in done["different"]:
        print_line(f"  {path}: {distance:.1e}")
    if compared < min(count, cached):
        print_line(f"  {lacking}")


@app.command("gc", epilog=epilog("cache gc"))
def gc(
    unused_days: Annotated[
        float | None,
        typer.Option(min=0, help="Also remove networks not used by an extraction for this long."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON; without --yes nothing is removed.")
    ] = False,
    cache: Cache = None,
) -> None:
    """Remove temporary files of killed processes, damaged shards, and networks long unused.

    Of the cache, and of the networks that this machine keeps for all caches. Lists first what would
    be removed, and asks.
    """
    from featx.cache.location import chosen, existing_cache
    from featx.maintenance import gc
    from featx.runtimes import networks

    place, kept = existing_cache(cache), networks.existing_root()
    pieces = gc.find(place, unused_days) if place is not None else []
    others = gc.find_networks(unused_days)
    both = [*pieces, *others]

    def remove() -> tuple[int, list[str]]:
        done = [
            gc.remove(where, what) for where, what in ((place, pieces), (kept, others)) if where
        ]
        return sum(freed for freed, _ in done), [one for _, refused in done for one in refused]

    if as_json:
        freed, refused = remove() if yes else (0, [])
        listed = [{"path": one.path, "what": one.what, "bytes": one.bytes} for one in both]
        print_json({"cache": _where(place), "found": listed, "freed": freed, "refused": refused})
        raise typer.Exit(1 if refused else 0)
    if not both:
        print_line(f"Nothing to remove in {chosen(cache)}")
        return
    listing = make_table("what")
    listing.add_column("count", justify="right")
    listing.add_column("MB", justify="right")
    for what in dict.fromkeys(piece.what for piece in both):
        sizes = [piece.bytes for piece in both if piece.what == what]
        listing.add_row(what, f"{len(sizes):,}", f"{sum(sizes) / 1e6:,.1f}")
    print_table(listing)
    for piece in pieces:
        path, root = piece.path, None if place is None else place.scratch
        inside = root is not None and path.is_relative_to(root)
        print_line(f"  {path.relative_to(root) if root and inside else path.as_posix()}")
    for piece in others:
        print_line(f"  {piece.path}")
    where = " and ".join(str(one) for one in (pieces and _where(place), others and kept) if one)
    total = file_size(sum(piece.bytes for piece in both))
    if not yes and not typer.confirm(f"Remove these from {where} ({total})?"):
        print_line("Nothing was removed.")
        return
    freed, refused = remove()
    print_line(f"Freed {file_size(freed)}")
    for sentence in refused:
        print_message(sentence)
    if refused:
        raise typer.Exit(1)


@app.command("compact", epilog=epilog("cache compact"))
def compact(
    grace: Annotated[
        float,
        typer.Option(min=0, help="Seconds to keep the replaced files for other readers."),
    ] = 30.0,
    as_json: AsJson = False,
    cache: Cache = None,
) -> None:
    """Merge small shards into large ones; every embedding stays as it is.

    Other processes may go on reading and writing.
    """
    from featx.maintenance import compaction

    place, stock = _contents(cache, as_json)
    failed, facts = False, []
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
            facts.append({"key": store.key, "problem": str(error)})
            failed = True
            continue
        facts.append({"key": store.key, **dataclasses.asdict(done)})
        if as_json:
            continue
        print_line(
            f"{name}: {done.published:,} shards written, {done.removed:,} removed, "
            f"{done.shards:,} in total"
        )
    if as_json:
        print_json({"cache": _where(place), "keys": facts})
    if failed:
        raise typer.Exit(1)
