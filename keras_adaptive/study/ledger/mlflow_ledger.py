"""The ledger of a study in MLflow.

MLflow's own configuration decides where the runs go: `MLFLOW_TRACKING_URI`, or else
`mlflow.db` and `mlruns/` in the current folder, where a plain `mlflow ui` shows them.
An experiment holds all studies of one name. A study is a parent run, and each training
run is a child run. The study's own process is the only writer. It writes the status of
a run last, so a run without a status is half-written.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from keras_adaptive.errors import InputError, needs_extra
from keras_adaptive.study.ledger.connection import (
    UNREACHABLE,
    Tell,
    answers_again,
    is_refusal,
    mask,
    reason,
)
from keras_adaptive.study.ledger.driver import this_driver
from keras_adaptive.study.ledger.lease import Lease, LeaseLost
from keras_adaptive.study.ledger.mlflow_runs import read_run, write_run
from keras_adaptive.study.ledger.record import Record
from keras_adaptive.study.ledger.run_values import LONGEST_VALUE
from keras_adaptive.study.ledger.spool import Spool
from keras_adaptive.study.ledger.sqlite_store import make_store
from keras_adaptive.study.ledger.waiting import Teller

with needs_extra("study"):
    import mlflow
    from mlflow.entities import RunStatus, RunTag
    from mlflow.exceptions import MlflowException

RUNS_A_PAGE = 1_000
PARENT = "mlflow.parentRunId"
RUNS = "tags.phase != 'study'"
HALF_WRITTEN = f"{RUNS} AND attributes.status = 'RUNNING'"


class Ledger(Mapping[str, Record]):
    """The MLflow experiment of a study, as a mapping from keys to the runs done.

    One search finds the runs that are done. A record of a run is made when it is first
    asked for.

    Args:
        experiment: Name of the experiment; it is made if it does not exist.
        spool: Folder for the runs that MLflow does not take. Runs from earlier days
            are delivered first.
        tell: Takes a line about what goes on, such as waiting for another process.

    Raises:
        InputError: If MLflow's store cannot be used.
    """

    def __init__(self, experiment: str, spool: Path, tell: Tell = print) -> None:
        """Connects to MLflow and finds or makes the experiment."""
        self.experiment = experiment
        self._spool = Spool(spool / experiment.replace("/", "-"))
        self.usable = True
        self._tell = Teller(tell)
        self._lease: Lease | None = None
        self._run_id: str | None = None
        self._records: dict[str, Record] = {}
        self._unread: dict[str, mlflow.entities.Run] = {}
        self._run_ids: dict[str, str] = {}
        with self._tell.usable_store():
            make_store(mlflow.get_tracking_uri())
            self._client = mlflow.MlflowClient()
            found = self._client.get_experiment_by_name(experiment)
            self.experiment_id = (
                found.experiment_id if found else self._make_experiment(experiment)
            )
        if found and found.lifecycle_stage == "deleted":
            raise InputError(
                f"The MLflow experiment {experiment!r} is deleted. Bring it back with "
                f"'mlflow experiments restore -x {self.experiment_id}'."
            )

    def _make_experiment(self, name: str) -> str:
        with suppress(MlflowException):  # another process may be first
            made: str = self._client.create_experiment(name)
            return made
        found = self._client.get_experiment_by_name(name)
        return found.experiment_id if found else self._client.create_experiment(name)

    def waiting(self) -> AbstractContextManager[None]:
        """Tells a line whenever a block, which reads runs, has been silent for long."""
        return self._tell.waiting()

    @property
    def run_id(self) -> str:
        """MLflow's id of the study's run, once the study is open."""
        if self._run_id is None:
            raise RuntimeError("The ledger has not been opened for a study.")
        return self._run_id

    def __getitem__(self, key: str) -> Record:
        """Returns the record of a run that is done."""
        if key not in self._records:
            with self._tell.usable_store():
                self._records[key] = read_run(self._client, self._unread[key])
            del self._unread[key]
        return self._records[key]

    def __contains__(self, key: object) -> bool:
        """Says whether a run is done, without reading it."""
        return key in self._records or key in self._unread

    def __iter__(self) -> Iterator[str]:
        """Yields the keys of the runs that are done."""
        return iter({**self._unread, **self._records})

    def __len__(self) -> int:
        """Returns the number of runs that are done."""
        return len(self._unread.keys() | self._records.keys())

    @contextmanager
    def open(
        self, title: str, tags: Mapping[str, str], workloads: Sequence[str] = ()
    ) -> Iterator[Ledger]:
        """Opens the parent run of a study, or opens it again.

        While it is open, no other process on any machine can open the study, or one of
        the experiment that shares a workload with it, see `Lease`. Runs that an
        interrupted process left half-written in this study are deleted, and runs that
        it could not deliver are delivered.

        Args:
            title: Name of the run.
            tags: Further tags of the run; they may change from one opening to the next.
            workloads: Names of the study's workloads.

        Yields:
            The ledger. The run ends as FINISHED, after an interrupt from the keyboard
            as KILLED, and after any other exception as FAILED with the tag `failure`.

        Raises:
            InputError: If MLflow's store or the spool cannot be used, or if another
                process has the study open.
        """
        self._spool.check()
        with ExitStack() as stack:
            with self._tell.usable_store():
                lease = Lease(
                    self._client, self.experiment_id, title, workloads, self._tell
                )
                self._lease = stack.enter_context(lease.held())
                self._open_parent(title, tags)
                self._read()
                self._deliver()
            yield from self._run()

    def _run(self) -> Iterator[Ledger]:
        """Yields the ledger and sets the status of the study's run at the end."""
        status, failure = "FAILED", ""
        try:
            yield self
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        except BaseException as error:
            failure = mask(f"{type(error).__name__}: {error}")[:LONGEST_VALUE]
            raise
        finally:
            if self.usable:
                try:
                    with self.waiting():
                        self._close(status, failure)
                except LeaseLost:
                    pass
                except UNREACHABLE as lost:
                    self._give_up(lost)

    def _verify(self) -> None:
        """Raises an error if another process has taken the study over."""
        if self._lease is not None:
            self._lease.verify()

    def _close(self, status: str, failure: str) -> None:
        self._verify()
        if status != "FINISHED":
            self._read(HALF_WRITTEN)  # as an interrupt may leave a run
        if failure:
            self._client.set_tag(self.run_id, "failure", failure)
        self._client.set_terminated(self.run_id, status)

    def _open_parent(self, title: str, tags: Mapping[str, str]) -> None:
        driver = str(this_driver())
        tags = {"phase": "study", "study": title, "driver": driver, **tags}
        studies = self._search("tags.phase = 'study'")
        parents = [run for run in studies if run.data.tags.get("study") == title]
        if parents:
            self._run_id = parents[0].info.run_id
            self._client.update_run(self._run_id, status="RUNNING")
        else:
            parent = self._client.create_run(self.experiment_id, run_name=title)
            self._run_id = parent.info.run_id
        shortened = [
            RunTag(key, str(value)[:LONGEST_VALUE]) for key, value in tags.items()
        ]
        self._client.log_batch(self._run_id, tags=shortened)

    def _search(self, query: str = "") -> list[mlflow.entities.Run]:
        runs: list[mlflow.entities.Run] = []
        token = None
        while True:
            page = self._client.search_runs(
                [self.experiment_id], query, max_results=RUNS_A_PAGE, page_token=token
            )
            runs += page
            token = page.token
            if not token:
                return runs

    def _read(self, query: str = RUNS) -> None:
        """Finds runs that are done, and deletes this study's half-written ones.

        Args:
            query: Which runs to look at; all by default.
        """
        for run in self._search(query):
            if "key" not in run.data.tags:
                continue
            key, parent = (run.data.tags.get(tag) for tag in ("key", PARENT))
            if not _has_ended(run) and parent == self.run_id:
                run = self._delete_unless_ended(run)
            if _has_ended(run):
                self._run_ids[key] = run.info.run_id
                if key not in self._records:
                    self._unread[key] = run

    def _delete_unless_ended(self, run: mlflow.entities.Run) -> mlflow.entities.Run:
        """Deletes a half-written run, but not if its status was set meanwhile."""
        self._client.delete_run(run.info.run_id)
        run = self._client.get_run(run.info.run_id)  # its status cannot change any more
        if _has_ended(run):
            self._client.restore_run(run.info.run_id)
        return run

    def of_other_data(self, workload: str, digest: str) -> int:
        """Returns the number of runs of a workload that used other data.

        Args:
            workload: Name of the workload.
            digest: Digest of its present data.
        """
        return sum(
            run.data.tags["workload"] == workload
            and run.data.tags["data_digest"] != digest
            for run in self._unread.values()
        )

    def forget(self, key: str) -> None:
        """Deletes a run, so that it can be made again."""
        with self._tell.usable_store():
            self._verify()
            if key in self._run_ids:
                self._client.delete_run(self._run_ids[key])
        self._spool.remove(key)
        self._records.pop(key, None)
        self._unread.pop(key, None)
        self._run_ids.pop(key, None)

    def write(self, record: Record) -> None:
        """Writes a run, to the spool if MLflow cannot be used.

        If MLflow fails, the ledger waits for it for a minute at most and tries once
        more. After that, all further runs go to the spool.

        Args:
            record: The run.

        Raises:
            LeaseLost: If another process has taken the study over.
            InputError: If neither MLflow nor the spool can be written.
        """
        if self._lease is not None:
            self._lease.check()
        with self.waiting():
            if not (self.usable and self._takes(record)):
                self._spool.add(record)
        self._records[record.key] = record

    def _takes(self, record: Record) -> bool:
        """Writes a run to MLflow, and says whether that has worked."""
        since = time.monotonic()
        try:
            self._write(record)
        except UNREACHABLE as error:
            try:
                if is_refusal(error):
                    self._set_aside(record, error)
                    return False
                if not answers_again(
                    self._client, self.experiment_id, error, since, self._tell
                ):
                    raise
                self._read(_of_key(record.key))  # only its answer may have been lost
                if record.key not in self._run_ids:
                    self._write(record)
            except UNREACHABLE as last:
                self._give_up(last)
                return False
        return True

    def _set_aside(self, record: Record, error: Exception) -> None:
        """Says that the run is not taken, and deletes what was written of it."""
        self._read(_of_key(record.key))
        self._tell(
            f"MLflow does not take the run of {record.contender} on {record.workload} "
            f"with {record.setting}, seed {record.seed}: {reason(error)}. It counts in "
            f"this study and stays in {self._spool.folder}. Other runs are not "
            "affected."
        )

    def _give_up(self, error: Exception) -> None:
        """Stops using MLflow, and says why."""
        self.usable = False
        if self._lease is not None:
            self._lease.store_is_gone = True
        self._tell(
            f"MLflow's store at {mask(mlflow.get_tracking_uri())} cannot be used any "
            f"more: {reason(error)}. Further runs wait in {self._spool.folder}."
        )

    @property
    def spooled(self) -> list[Path]:
        """The files with runs that are still to be delivered."""
        return self._spool.files

    def _deliver(self) -> None:
        """Writes the runs of the spool, except those that MLflow has after all.

        Each is tried by itself, so that one that MLflow does not take holds up no
        other.
        """
        for record in self._spool.records(self._tell).values():
            self._records[record.key] = record
            if record.key not in self._run_ids:
                try:
                    self._write(record)
                except UNREACHABLE as error:
                    self._set_aside(record, error)
                    continue
            self._spool.remove(record.key)

    def _write(self, record: Record) -> None:
        self._run_ids[record.key] = write_run(
            self._client, self.experiment_id, self.run_id, record, self._verify
        )


def _of_key(key: str) -> str:
    return f"tags.key = '{key}'"


def _has_ended(run: mlflow.entities.Run) -> bool:
    return bool(RunStatus.is_terminated(RunStatus.from_string(run.info.status)))
