"""The record of a study in MLflow.

No tracking configuration of its own: the runs go where MLflow's resolution says,
`MLFLOW_TRACKING_URI` or else `mlflow.db` and `mlruns/` in the current folder, so that
a plain `mlflow ui` in that folder shows them. One experiment holds the studies of a
name, one parent run a study, one child run a training run. The study's own process
is the only writer.
"""

import logging
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keras_adaptive.study.datasets.dataset import Dataset
from keras_adaptive.study.errors import StudyError, needs_extra
from keras_adaptive.study.training import Contender, Point, RunResult

with needs_extra("study"):
    import mlflow
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.exceptions import MlflowException

METRICS_PER_BATCH = 1_000
LONGEST_VALUE = 5_000
NOISY_LOGGERS = ("mlflow", "alembic")


@contextmanager
def quiet_mlflow() -> Iterator[None]:
    """Holds back MLflow's notes about its database, and restores the log levels."""
    loggers = [logging.getLogger(name) for name in NOISY_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def flatten(config: Mapping[str, Any], prefix: str) -> dict[str, str]:
    """Flattens a nested configuration into MLflow parameters.

    Args:
        config: A `get_config()`; a schedule in it is a mapping itself.
        prefix: Put before each name, with a dot.

    Returns:
        Each value as a string, by its dotted name.
    """
    flat: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}.{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, name)
        else:
            flat[name] = str(value)[:LONGEST_VALUE]
    return flat


def identity(
    workload: str, contender: Contender, seed: int, phase: str
) -> dict[str, str]:
    """Returns what a run is filtered by, as its tags and as its parameters."""
    return {
        "workload": workload,
        "contender": contender.name,
        "learning_rate": f"{contender.learning_rate:g}",
        "seed": str(seed),
        "phase": phase,
    }


class Run:
    """A running MLflow run, written in batches.

    Args:
        run_id: MLflow's id of the run.
    """

    def __init__(self, run_id: str):
        self.run_id = run_id
        self._client = mlflow.MlflowClient()
        self._metrics: list[Metric] = []

    def describe(
        self, params: Mapping[str, str], tags: Mapping[str, str] | None = None
    ) -> None:
        """Writes parameters and tags."""
        self._client.log_batch(
            self.run_id,
            params=[Param(key, value) for key, value in params.items()],
            tags=[RunTag(key, value) for key, value in (tags or {}).items()],
        )

    def metric(self, key: str, value: float, timestamp: int, step: int) -> None:
        """Keeps a measured value until the next flush.

        MLflow cannot hold infinity and NaN: they become the tag `non_finite.<key>`,
        which says the step of the last of them.
        """
        if not math.isfinite(value):
            tag = f"non_finite.{key}"
            self._client.set_tag(self.run_id, tag, f"{value} at step {step}")
            return
        self._metrics.append(Metric(key, value, timestamp, step))
        if len(self._metrics) == METRICS_PER_BATCH:
            self.flush()

    def curve(self, points: tuple[Point, ...]) -> None:
        """Keeps all values of a curve, with their steps and times."""
        for point in points:
            for key, value in point.metrics.items():
                self.metric(key, value, point.timestamp, point.step)
            self.metric("train_seconds", point.seconds, point.timestamp, point.step)

    def flush(self) -> None:
        """Writes the values kept so far."""
        if self._metrics:
            self._client.log_batch(self.run_id, metrics=self._metrics)
            self._metrics = []

    def artifact(self, path: Path) -> None:
        """Stores a file with the run."""
        self._client.log_artifact(self.run_id, str(path))


@contextmanager
def open_run(
    experiment_id: str, name: str, tags: Mapping[str, str] | None = None
) -> Iterator[Run]:
    """Opens a run, within the one that is open already, and writes its status last.

    Args:
        experiment_id: MLflow's id of the experiment.
        name: Name of the run.
        tags: Tags of the run, there from its start.

    Yields:
        The run. It ends as FINISHED, as KILLED by an interrupt from the keyboard, and
        as FAILED, with the tag `failure`, by any other exception.
    """
    started = mlflow.start_run(
        experiment_id=experiment_id, run_name=name, tags=dict(tags or {}), nested=True
    )
    run = Run(started.info.run_id)
    status = "FAILED"
    try:
        yield run
        run.flush()
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    except BaseException as error:
        mlflow.set_tag("failure", f"{type(error).__name__}: {error}"[:LONGEST_VALUE])
        raise
    finally:
        mlflow.end_run(status)


class Ledger:
    """The MLflow experiment of a study.

    Args:
        experiment: Name of the experiment; it is made if there is none.

    Raises:
        StudyError: If MLflow's store cannot be used.
    """

    def __init__(self, experiment: str):
        try:
            client = mlflow.MlflowClient()
            found = client.get_experiment_by_name(experiment)
            self.experiment_id = (
                found.experiment_id if found else client.create_experiment(experiment)
            )
        except (MlflowException, OSError) as error:
            raise StudyError(
                f"MLflow's store at {mlflow.get_tracking_uri()} cannot be used: "
                f"{error}. Check MLFLOW_TRACKING_URI, or unset it to keep the runs in "
                "the current folder."
            ) from error
        if found and found.lifecycle_stage == "deleted":
            raise StudyError(
                f"The MLflow experiment {experiment!r} is deleted. Bring it back with "
                f"'mlflow experiments restore -x {self.experiment_id}'."
            )

    @contextmanager
    def study(self, name: str, params: Mapping[str, Any]) -> Iterator[Run]:
        """Opens the parent run of a study.

        Args:
            name: Name of the run.
            params: What was asked for.

        Yields:
            The run, for tables and plots.
        """
        with open_run(self.experiment_id, name, {"phase": "study"}) as run:
            run.describe({key: str(value) for key, value in params.items()})
            yield run

    @contextmanager
    def child(
        self, data: Dataset, contender: Contender, seed: int, phase: str
    ) -> Iterator[Run]:
        """Opens the run of one contender with one seed, within a study.

        Args:
            data: What is learned.
            contender: Who runs.
            seed: The seed of the run.
            phase: What the run is for: `"compare"` or `"tune"`.

        Yields:
            The run, for `record`.
        """
        marks = identity(data.name, contender, seed, phase)
        name = f"{contender.name} lr={contender.learning_rate:g} seed={seed}"
        with open_run(self.experiment_id, name, marks) as run:
            run.describe(marks)
            mlflow.log_input(
                MetaDataset(
                    CodeDatasetSource({"mlflow.source.name": data.source}),
                    name=data.name,
                    digest=data.digest,
                ),
                context="training",
            )
            yield run


def record(run: Run, result: RunResult) -> None:
    """Writes what came of a run, before the run is closed.

    Args:
        run: The open run.
        result: What came of it.
    """
    outcome = "finished"
    if result.diverged_at is not None:
        outcome = f"diverged at step {result.diverged_at}"
    run.describe(flatten(result.config, "optimizer"), {"outcome": outcome})
    run.curve(result.curve)
    last = result.curve[-1]
    for key in ("test_loss", "test_accuracy", "first_epoch_seconds"):
        run.metric(key, getattr(result, key), last.timestamp, last.step)
    run.metric("step_ms", 1e3 * result.step_seconds, last.timestamp, last.step)


def store_location() -> str:
    """Says where MLflow keeps the runs."""
    uri = mlflow.get_tracking_uri()
    return f"{uri} (in {os.getcwd()})" if uri.startswith("sqlite:///mlflow") else uri
