"""Sessions that check everything: `nox -l` lists them, `nox -s docs` runs one.

`.ci/run` is what a merge must pass; these are for a release and for other Pythons and backends.
"""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests"]
nox.options.default_venv_backend = "venv"
PYTHONS = ["3.11", "3.12", "3.13"]
FAST = ("pytest", "-m", "not slow", "-rs")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run every test, with the newest releases that the requirements allow."""
    session.install(".[test]")
    session.run("pytest", "-rs", *session.posargs)


@nox.session(python=PYTHONS)
def newest(session: nox.Session) -> None:
    """Run the fast tests with the newest releases, pre-releases included."""
    session.install("--pre", "--upgrade", ".[test]")
    session.run(*FAST, *session.posargs)


@nox.session(python="3.11")
def floors(session: nox.Session) -> None:
    """Run the fast tests with the oldest releases that the requirements allow."""
    session.install(".[test]", "-c", "constraints-floors.txt")
    session.run(*FAST, *session.posargs)


@nox.session(python="3.11")
@nox.parametrize("backend", ["torch", "jax"])
def backends(session: nox.Session, backend: str) -> None:
    """Run the fast tests with Keras on PyTorch or JAX."""
    session.install(".[test]", backend)
    session.run(*FAST, *session.posargs, env={"KERAS_BACKEND": backend})


@nox.session(python="3.11")
def docs(session: nox.Session) -> None:
    """Build the site: examples run, warnings are errors, links inside it are checked."""
    session.install(".[docs,test]")
    session.run("pytest", "-n0", "tests/test_site.py", env={"FEATX_PROMISES": "long"})
    session.run("sphinx-build", "-W", "--keep-going", "docs", "docs/_build/html")


@nox.session(python="3.11")
def lint(session: nox.Session) -> None:
    """Check style and format."""
    session.install("ruff>=0.12")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(python="3.11")
def types(session: nox.Session) -> None:
    """Check types, strictly."""
    session.install(".[dev]")
    session.run("mypy", "featx", "tests")


def _date(sdist: Path, at: int) -> None:
    """Give all that a source archive holds one time and no owner: setuptools writes those of now.

    Its wheels follow SOURCE_DATE_EPOCH, its source archives do not.
    """
    with tarfile.open(sdist) as archive:
        held = [
            (one, archive.extractfile(one).read() if one.isfile() else b"")
            for one in sorted(archive.getmembers(), key=lambda one: one.name)
        ]
    with (
        sdist.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=at) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for one, content in held:
            one.mtime, one.uid, one.gid, one.uname, one.gname, one.pax_headers = (
                at,
                0,
                0,
                "",
                "",
                {},
            )
            archive.addfile(one, io.BytesIO(content))


@nox.session(python="3.11")
def build(session: nox.Session) -> None:
    """Build wheel and sdist, twice the same bytes; check them and try them in this environment."""
    session.install("build", "twine", "check-wheel-contents")
    first, again = Path("dist"), Path("build/again")
    # The time of every file in the archives: that of the commit, so that a second build is equal.
    at = str(session.run("git", "log", "-1", "--format=%ct", external=True, silent=True)).strip()
    for folder in (first, again):
        shutil.rmtree(folder, ignore_errors=True)
        command = ("python", "-m", "build", "--outdir", str(folder))
        session.run(*command, env={"SOURCE_DATE_EPOCH": at})
        _date(next(folder.glob("*.tar.gz")), int(at))
    for path in sorted(first.iterdir()):
        if path.read_bytes() != (again / path.name).read_bytes():
            session.error(f"{path.name} is not the same when it is built again")
    made = [str(path) for path in sorted(first.iterdir())]
    session.run("twine", "check", "--strict", *made)
    session.run("check-wheel-contents", *[path for path in made if path.endswith(".whl")])
    session.install(*[path for path in made if path.endswith(".whl")])
    with session.chdir(session.create_tmp()):
        session.run("featx", "--version")
        session.run("featx", "demo", "--out", "demo")
