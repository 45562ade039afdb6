"""Where tasks run: on a Dask cluster, or wherever joblib runs what it is given."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from concurrent.futures import CancelledError
from contextlib import closing, suppress
from itertools import islice
from typing import Any

from featx.errors import EngineError, OptionError, RuntimeUnavailableError, WorkerDiedError
from featx.extraction import worker
from featx.extraction.tasks import Plan, Result, Task
from featx.extraction.worker import Greeting
from featx.runtimes import cpu_count

logger = logging.getLogger(__name__)

Results = Generator[tuple[Task, Result | None], None, None]

ENGINES = ("local", "joblib", "dask")

# By name, since none of these libraries need be installed: what tells that a process is gone.
_DEATHS = {
    "ActorDiedError",
    "BrokenProcessPool",
    "KilledWorker",
    "TerminatedWorkerError",
    "WorkerCrashedError",
}
# How long the workers of a cluster are waited for when they are asked what they have: they answer
# within a second or two, and one that is busy with something else must not hold up the others.
_ANSWER_SECONDS = 30.0
# How long an answer that is there may take to come.
_GONE_SECONDS = 5.0
# Tasks that a worker has: one that it computes and the next, so that it never waits for the driver.
_TASKS_A_WORKER = 2


def check_engine(engine: str, scheduler: str | None = None) -> None:
    """Raise OptionError unless this engine is known and takes a scheduler's address, if any."""
    if engine not in ENGINES:
        raise OptionError(f"engine={engine!r}: expected one of {ENGINES}.")
    if scheduler is not None and engine != "dask":
        raise OptionError(
            f"scheduler={scheduler!r} with engine={engine!r}: only engine='dask' has a scheduler."
        )


def workers_elsewhere(engine: str, scheduler: str | None) -> int:
    """Return how many workers a cluster has; 1 where this machine alone would compute."""
    check_engine(engine, scheduler)
    if engine != "dask":
        return 1
    if scheduler is None:
        try:
            from distributed import default_client

            default_client()
        except (ImportError, ValueError):  # a cluster of this machine would be started
            return 1
    dask = Dask(scheduler)
    try:
        return dask.workers()
    finally:
        dask.close()


class Engine(ABC):
    """Runs tasks in other processes."""

    @abstractmethod
    def greeting(self, plan: Plan) -> Greeting:
        """Return what one worker says of itself, its network started."""

    @abstractmethod
    def check(self, plan: Plan) -> None:
        """Raise EngineError if a worker is known that cannot compute what is asked."""

    @abstractmethod
    def workers(self) -> int:
        """Return how many workers there are, at least one."""

    @abstractmethod
    def run(self, plan: Plan, tasks: Iterator[Task]) -> Results:
        """Yield each task with its result as it comes; None where its worker process ended.

        Tasks are drawn as they are needed. Closed early, those that are not begun are dropped.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop what was started for this engine alone."""


def completed(
    engine: Engine, plan: Plan, tasks: Iterator[Task]
) -> Generator[tuple[Task, Result | WorkerDiedError], None, None]:
    """Yield the results of tasks, or of parts of them where a process does not survive the whole.

    A task whose process ended is run again when all others are done, with no other beside it, so
    that none is blamed for another. Where it ends again the task is halved, until one image is
    left.
    """
    suspects: list[tuple[Task, bool]] = []
    with closing(engine.run(plan, tasks)) as found:
        for task, result in found:
            if result is None:
                suspects.append((task, False))
            else:
                yield task, result
    while suspects:
        task, again = suspects.pop()
        ((_, result),) = engine.run(plan, iter([task]))
        if result is not None:
            yield task, result
        elif len(task) > 1:
            assert plan.entries is not None
            if not again:
                logger.warning(
                    "a worker process ended twice at the same %d images, the first of which is "
                    "%s: they are halved to find out which one ends it",
                    len(task), task.images[0][0],
                )  # fmt: skip
            suspects += [(half, True) for half in reversed(task.halves(plan.entries))]
        else:
            yield (
                task,
                WorkerDiedError(
                    "the worker process ended each time that it had this image: look at its "
                    "log, for too little memory or a decoder that crashed"
                ),
            )


def opened(engine: str, scheduler: str | None) -> Engine:
    """Return an engine, connected."""
    return Joblib() if engine == "joblib" else Dask(scheduler)


class Joblib(Engine):
    """Whatever `joblib.parallel_config` says; by default a process for each processor."""

    def __init__(self) -> None:
        from joblib.parallel import get_active_backend

        backend, jobs = get_active_backend()
        # Without a word joblib runs one job, and whoever asks for an engine wants several.
        self._jobs = -1 if jobs in (None, 1) and type(backend).__name__ == "LokyBackend" else None
        # Ray's and joblib's own pools return the results of a call together.
        self._one_by_one = bool(getattr(backend, "supports_return_generator", False))

    def greeting(self, plan: Plan) -> Greeting:
        """Return what one worker says of itself, its network started."""
        from joblib import delayed

        with self._parallel("list") as parallel:
            return parallel([delayed(worker.greet)(plan)])[0]

    def check(self, plan: Plan) -> None:
        """Leave it to the first task of each process: joblib cannot ask them all."""

    def workers(self) -> int:
        """Return how many processes joblib uses."""
        from joblib import effective_n_jobs

        return max(1, effective_n_jobs(self._jobs or -1))

    def run(self, plan: Plan, tasks: Iterator[Task]) -> Results:
        """Yield each task with its result as it comes; see ``Engine``."""
        from joblib import delayed

        # Those that joblib has drawn; of two threads one draws and one takes out.
        given: dict[tuple[int, int], Task] = {}

        def noted() -> Iterator[Any]:
            for task in tasks:
                given[task.number, task.begin] = task
                yield delayed(_identified)(plan, task)

        while True:
            try:
                if self._one_by_one:
                    with self._parallel("generator_unordered") as parallel:
                        for place, result in parallel(noted()):
                            yield given.pop(place), result
                else:
                    with self._parallel("list") as parallel:
                        a_round = _TASKS_A_WORKER * self.workers()
                        while some := list(islice(noted(), a_round)):
                            for place, result in parallel(some):
                                yield given.pop(place), result
            except Exception as error:
                if type(error).__name__ not in _DEATHS:
                    raise
            if not given:
                return
            lost = [*given.values()]
            given.clear()
            for task in lost:
                yield task, None

    def close(self) -> None:
        """Leave joblib's processes as they are: it keeps them for its next call."""

    def _parallel(self, return_as: str) -> Any:
        from joblib import Parallel

        # Tasks are some seconds each: batches of them would leave workers idle at the end.
        return Parallel(
            n_jobs=self._jobs, batch_size=1, return_as=return_as,
            pre_dispatch=f"{_TASKS_A_WORKER} * n_jobs",
        )  # fmt: skip


def _identified(plan: Plan, task: Task) -> tuple[tuple[int, int], Result]:
    return (task.number, task.begin), worker.compute(plan, task)


class Dask(Engine):
    """A Dask cluster: that of the current client, of an address, or one of this machine.

    Parameters
    ----------
    scheduler : str or None
        The address of a scheduler, such as "tcp://head:8786".
    """

    def __init__(self, scheduler: str | None) -> None:
        try:
            import distributed
        except ImportError as error:
            raise RuntimeUnavailableError(
                "engine='dask' needs Dask: pip install 'featx[dask]'."
            ) from error
        self._cluster: Any = None
        self._own = True
        if scheduler is not None:
            try:
                # First by itself: a client that was refused an address waits for a minute at the
                # end of the process, and then prints a traceback.
                distributed.comm.resolve_address(scheduler)
                self._client = distributed.Client(scheduler, set_as_default=False)
            except (OSError, ValueError) as error:
                raise EngineError(
                    f"no Dask scheduler answers at {scheduler} ({error}). Expected an address such "
                    "as tcp://head:8786, which `dask scheduler` prints when it starts."
                ) from error
            return
        with suppress(ValueError):  # there is none
            self._client = distributed.default_client()
            self._own = False
            return
        self._cluster = _local_cluster()
        self._client = distributed.Client(self._cluster, set_as_default=False)
        self._client.wait_for_workers(cpu_count())
        logger.warning(
            "no Dask client was made before: a cluster of %d workers of this machine computes, at "
            "%s. To use another one, make a distributed.Client first, or pass scheduler=.",
            len(self._client.nthreads()), self._client.scheduler.address,
        )  # fmt: skip

    def greeting(self, plan: Plan) -> Greeting:
        """Return what one worker says of itself, its network started."""
        try:
            return self._client.submit(worker.greet, plan, pure=False).result()
        except Exception as error:
            if type(error).__name__ not in _DEATHS:
                raise
            raise EngineError(
                f"worker processes ended while they started the network ({error}): look at their "
                "logs, for too little memory."
            ) from error

    def check(self, plan: Plan) -> None:
        """Raise EngineError if a worker is known that cannot compute what is asked."""
        from distributed import wait

        self.workers()
        asked = {
            at: self._client.submit(worker.readiness, plan, workers=[at], pure=False)
            for at in self._client.nthreads()
        }
        try:
            # Who is busy, or gone, is asked again by the first task that it gets.
            until = time.monotonic() + _ANSWER_SECONDS
            waiting = list(asked.values())
            while waiting and time.monotonic() < until:
                with suppress(TimeoutError), self._client.as_current():
                    wait(waiting, timeout=1.0)
                there = self._client.nthreads()
                waiting = [
                    one for at, one in asked.items() if one.status == "pending" and at in there
                ]
            answers, lacking = {}, {}
            for at, one in asked.items():
                # The answer of a worker that ended since will never come: no other may give it.
                with suppress(TimeoutError, CancelledError):
                    if one.status == "finished":
                        answers[at] = one.result(timeout=_GONE_SECONDS)
                    elif one.status == "error":
                        lacking[at] = one.exception(timeout=_GONE_SECONDS)
        finally:
            self._client.cancel(list(asked.values()))
        refusals = [f"  {at} ({name}): {why}" for at, (name, _, why) in answers.items() if why]
        refusals += [
            f"  {at}: {type(error).__name__}: {error}"
            for at, error in lacking.items()
            if type(error).__name__ not in _DEATHS
        ]
        if refusals:
            raise EngineError(
                f"{len(refusals)} of {len(asked)} workers cannot compute; nothing was begun:\n"
                + "\n".join(refusals[:20])
            )
        _refuse_odd_versions({address: have for address, (_, have, _) in answers.items()})

    def run(self, plan: Plan, tasks: Iterator[Task]) -> Results:
        """Yield each task with its result as it comes; see ``Engine``."""
        from distributed import wait

        # Once for all tasks, and as a task of its own: whoever dies with it, it is made again.
        shared = self._client.submit(_same, plan, pure=False)
        going: dict[Any, Task] = {}
        try:
            while True:
                room = _TASKS_A_WORKER * self.workers() - len(going)
                for _, task in zip(range(room), tasks, strict=False):
                    going[self._client.submit(worker.compute, shared, task, pure=False)] = task
                if not going:
                    return
                with suppress(TimeoutError), self._client.as_current():
                    wait(list(going), timeout=_ANSWER_SECONDS, return_when="FIRST_COMPLETED")
                for future in [one for one in going if one.status != "pending"]:
                    task = going.pop(future)
                    if future.status == "finished":
                        yield task, _result(future)
                    elif future.status != "error":
                        raise EngineError(
                            f"the Dask scheduler dropped a task ({future.status}): it was stopped "
                            "or restarted. What was published stays; run again."
                        )
                    elif type(error := future.exception()).__name__ in _DEATHS:
                        yield task, None
                    else:
                        raise error
        finally:
            with suppress(Exception):  # the scheduler may be gone
                self._client.cancel(list(going))

    def close(self) -> None:
        """Disconnect, and stop the cluster that was started for this engine alone."""
        if self._own:
            self._client.close()
        if self._cluster is not None:
            self._cluster.close()

    def workers(self) -> int:
        """Return how many workers there are, at least one; the first is waited for."""
        count = len(self._client.nthreads())
        if not count:
            logger.warning("waiting for the first worker of the Dask cluster")
            self._client.wait_for_workers(1)
        return max(count, 1)


def _result(future: Any) -> Result | None:
    """Return a result, computed again where its worker ended since; None if that ends another."""
    try:
        return future.result()
    except Exception as error:
        if type(error).__name__ not in _DEATHS:
            raise
        return None


def _same(plan: Plan) -> Plan:
    return plan


def _local_cluster() -> Any:
    """Return a cluster of this machine, a worker for each processor.

    Its processes are started by themselves and not by `multiprocessing`, which would run the
    caller's script again in each unless that guards its main part.
    """
    import dask
    from distributed.deploy.subprocess import SubprocessCluster

    # A process that ends is one too many here: the task is run again alone, see `completed`.
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        return SubprocessCluster(
            n_workers=cpu_count(), threads_per_worker=1, dashboard_address=None,
            scheduler_kwargs={"dashboard": False}, worker_kwargs={"dashboard": False},
        )  # fmt: skip


def _refuse_odd_versions(found: dict[str, dict[str, str]]) -> None:
    """Raise EngineError unless all workers have the same packages, where these touch an image."""
    common = [set(have.items()) for have in found.values()]
    every = set.intersection(*common) if common else set()
    odd = sorted({name for have in common for name, _ in have - every} - {"machine", "python"})
    if odd:
        said = [
            f"  {address}: " + ", ".join(f"{name} {have.get(name, 'absent')}" for name in odd)
            for address, have in found.items()
        ]
        raise EngineError(
            f"workers have different versions of {', '.join(odd)}, which may change the last "
            "digits of an embedding; nothing was begun:\n" + "\n".join(said[:20])
        )
