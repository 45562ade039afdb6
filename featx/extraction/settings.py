"""The sizes and waiting times of an extraction; none of them changes an embedding."""

from __future__ import annotations

from dataclasses import dataclass

from featx.cache.locks import ANSWER_SECONDS


@dataclass(frozen=True)
class Settings:
    """What an extraction is tuned with.

    Users do not set these: they change how much a kill loses and how long others are waited for,
    and where blocks are cut. Tests make them small.

    Attributes
    ----------
    block : int
        A kill loses at most this many images, some seconds of a CPU's work: those of a block that
        is not published yet, and `ahead` of the next one.
    ahead : int
        Images of the next block that are computed while one is published, so that no core rests.
    largest : int
        What a kill loses at most where batches are large: a second or two of a GPU's work.
    patience : float
        How long the blocks of other processes are waited for after the last of them arrived: this
        many times what a block takes here, ...
    patience_seconds : float
        ... and this long where no block was computed here.
    task : int
        Blocks that a worker of a cluster computes at a time, at most: with one alone it would
        rest at each end, and with many more than these a worker's death would cost minutes.
    tasks : int
        As many tasks for each worker a small data set is cut into: between two tasks a worker
        rests, at the end of the last it waits for the others.
    lock_seconds : float
        How long the lock of a claim is waited for; without an answer none is asked for again.
    """

    block: int = 256
    ahead: int = 64
    largest: int = 1024
    patience: float = 3.0
    patience_seconds: float = 120.0
    task: int = 16
    tasks: int = 3
    lock_seconds: float = ANSWER_SECONDS


DEFAULT = Settings()
