"""Runs on a cluster of Dask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any

from keras_adaptive.errors import ClusterError, InputError, counted, needs_extra
from keras_adaptive.study.execution.cluster import host
from keras_adaptive.study.execution.cluster.remote import GO_ON, RemoteSite, Submit
from keras_adaptive.study.execution.executors import Pool
from keras_adaptive.study.execution.processes import runs_by_fit
from keras_adaptive.study.execution.this_machine import SHARE_OF_MEMORY

with needs_extra("study"):
    import joblib

with needs_extra("cluster"):
    from distributed import Client, Future, WorkerPlugin
    from distributed.scheduler import KilledWorker

if TYPE_CHECKING:
    from keras_adaptive.datasets.dataset import Dataset

SECONDS_TO_CONNECT = 10.0


@dataclass(frozen=True)
class DaskExecutor:
    """Makes runs on a cluster of Dask, by `fit` and by compiled programs.

    Each of Dask's workers is given one task at a time: a run, or a pack of compiled
    ones. It makes them in a process of its own, with this process's Keras backend. A
    worker receives the data once. A task whose worker is lost goes to another worker.
    This process remains the only one that writes to MLflow.

    Args:
        client: The client of the cluster.
        count: The most tasks at the same time; `None` for the number of workers when a
            study begins. Give it for a cluster that grows with its tasks.
        seconds_to_wait: So long a study waits for the first worker.

    Raises:
        InputError: If the count is not a whole number above 0. When a study begins: if
            there is no worker, or if one has other versions of Python, Keras, this
            package or another library that decides numbers.
        ClusterError: In a study, if the scheduler is lost.
    """

    client: Client
    count: int | None = None
    seconds_to_wait: float = 60.0
    _kept: Counter[str] = field(default_factory=Counter, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Checks the count."""
        if self.count is not None:
            object.__setattr__(self, "count", counted("DaskExecutor", self.count))

    @classmethod
    @contextmanager
    def connected(
        cls, address: str, count: int | None = None
    ) -> Iterator[DaskExecutor]:
        """Connects to a scheduler for the length of a block.

        Dask's configuration says which certificates are used for TLS.

        Args:
            address: The address of the scheduler, such as `tcp://10.0.0.1:8786`.
            count: See `DaskExecutor`.

        Raises:
            InputError: If nobody answers.
        """
        try:
            client = Client(address, timeout=SECONDS_TO_CONNECT)
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"No scheduler answers at {address!r}: {error}. Start one with `dask "
                "scheduler`, and name the address that it prints."
            ) from error
        with client:
            yield cls(client, count)

    @contextmanager
    def site(self, data: Mapping[str, Dataset]) -> Iterator[RemoteSite]:
        """Opens the place of compiled runs, see `Executor`."""
        self._wait_for_workers()
        self._check_versions()
        with ExitStack() as stack:
            files = {}
            for name, dataset in data.items():
                files[name] = f"{dataset.digest}.joblib"
                stack.enter_context(self._data_at_workers(files[name], dataset))
            stack.callback(self.tidy, self.client.run, host.end_processes)
            yield self._site(files)

    @contextmanager
    def start(self, data: Mapping[str, Dataset]) -> Iterator[Pool]:
        """Opens a pool, see `Executor`."""
        with self.site(data) as site, runs_by_fit(site) as pool:
            yield pool

    def _wait_for_workers(self) -> None:
        try:
            self.client.wait_for_workers(1, timeout=self.seconds_to_wait)
        except TimeoutError as error:
            raise InputError(
                f"The cluster at {self._address} had no worker for "
                f"{self.seconds_to_wait:.0f} s. Start workers with `dask worker "
                f"{self._address}`."
            ) from error

    def _check_versions(self) -> None:
        ours = host.software()
        found = self.client.run(host.software, on_error="return")
        for address, theirs in found.items():
            if isinstance(theirs, Exception):
                raise InputError(
                    f"The worker at {address} cannot import keras_adaptive: {theirs}. "
                    "Install the same version there, with the extras study and cluster."
                ) from theirs
            _check_same(ours, theirs, address)

    @contextmanager
    def _data_at_workers(self, name: str, dataset: Dataset) -> Iterator[None]:
        """Sends a dataset to each worker once, also to those that come later."""
        if not self._kept[name]:
            content = BytesIO()
            joblib.dump(dataset, content)
            plugin = _Data(name, content.getvalue(), host.software())
            self.client.register_plugin(plugin)
        self._kept[name] += 1
        try:
            yield
        finally:
            self._kept[name] -= 1
            if not self._kept[name]:
                self.tidy(self.client.unregister_worker_plugin, name)

    def _site(self, files: Mapping[str, str]) -> RemoteSite:
        workers = self._workers()
        together = Counter(each["host"] for each in workers.values())
        share = SHARE_OF_MEMORY / max(together.values())
        places = _Places(self)
        count = self.count or len(workers)
        return RemoteSite(files, [places.submit_for(n) for n in range(count)], share)

    def _workers(self) -> dict[str, Any]:
        workers: dict[str, Any] = self.client.scheduler_info()["workers"]
        return workers

    @property
    def _address(self) -> str:
        return str(self.client.scheduler.address if self.client.scheduler else "")

    def tidy(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Calls a function of the client, unless the cluster is lost."""
        if self.client.status == "running":
            with suppress(Exception):
                function(*arguments)

    def lost(self) -> ClusterError:
        """Returns the error of a study whose scheduler is lost."""
        return ClusterError(
            f"The scheduler at {self._address} no longer answers. {GO_ON}"
        )


class _Data(WorkerPlugin):
    """A dataset in a file at each worker, which must have our versions."""

    idempotent = True

    def __init__(self, name: str, content: bytes, software: dict[str, Any]) -> None:
        self.name = name
        self._content = content
        self._software = software

    def setup(self, worker: Any) -> None:
        """Receives the data when the worker starts or the study begins."""
        _check_same(self._software, host.software(), worker.address)
        host.limits.threads = worker.state.nthreads
        host.limits.memory = worker.memory_manager.memory_limit or 0
        host.keep(self.name, self._content)

    def teardown(self, worker: Any) -> None:
        """Removes the data."""
        host.drop(self.name)


def _check_same(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], address: str
) -> None:
    other = [
        f"{name} {theirs.get(name, 'not at all')} (here {version})"
        for name, version in ours.items()
        if theirs.get(name) != version
    ]
    if other:
        raise InputError(
            f"The worker at {address} has other versions: {', '.join(other)}. A run's "
            "numbers depend on them. Install the same ones on all machines."
        )


class _Places:
    """Keeps a worker for each process of a site, as long as it lives.

    So programs that were compiled are where they are needed.
    """

    def __init__(self, executor: DaskExecutor) -> None:
        self._executor = executor
        self._addresses: dict[int, str] = {}

    def submit_for(self, place: int) -> Submit:
        """Returns what has a function called by the worker of a process."""

        def submit(
            function: Callable[..., Any], *arguments: Any
        ) -> futures.Future[bytes]:
            return _Sent(self._executor, self._where(place), function, arguments)

        return submit

    def _where(self, place: int) -> list[str]:
        """Returns the address of the worker of a process, if it has one."""
        try:
            living = self._executor._workers()
        except Exception as error:
            raise self._executor.lost() from error
        if self._addresses.get(place) not in living:
            taken = set(self._addresses.values())
            free = [address for address in living if address not in taken]
            self._addresses.pop(place, None)
            if free:
                self._addresses[place] = free[0]
        return [self._addresses[place]] if place in self._addresses else []


class _Sent(futures.Future):
    """A task at the cluster, as a future of `concurrent.futures`."""

    def __init__(
        self,
        executor: DaskExecutor,
        where: list[str],
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
    ) -> None:
        super().__init__()
        self._executor = executor
        try:
            self._task = executor.client.submit(
                function,
                *arguments,
                pure=False,
                workers=where or None,
                allow_other_workers=bool(where),
            )
        except Exception as error:
            raise executor.lost() from error
        self._task.add_done_callback(self._end)

    def _end(self, task: Future) -> None:
        if task.status == "finished":
            self.set_result(task.result())
        elif task.status == "error":
            error = task.exception()
            if isinstance(error, KilledWorker):
                error = host.ProcessDied(f"the worker was lost: {error}")
            self.set_exception(error)
        elif not self.done():
            self.set_exception(self._executor.lost())

    def cancel(self) -> bool:
        """Has the cluster forget the task."""
        self._executor.tidy(self._task.cancel)
        return True
