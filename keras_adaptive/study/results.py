"""What the runs of a comparison say: targets and summaries, as pure functions."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from keras_adaptive.study.training import Contender, RunResult

TARGET_RULE = (
    "Target: the median over seeds of the best validation accuracy of the reference, "
    "{reference}; epochs to target: the first epoch whose validation accuracy reaches "
    "it, and how many runs did; a miss counts as later than any epoch"
)


@dataclass(frozen=True)
class Spread:
    """Median and range of a measurement over seeds. Infinite: the run had no value."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        values = list(values)
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Row:
    """A contender's line in the table."""

    contender: Contender
    runs: int
    diverged: int
    hits: int
    test_accuracy: Spread
    test_loss: Spread
    epochs_to_target: Spread
    step_seconds: Spread
    first_epoch_seconds: Spread


def validation_accuracies(result: RunResult) -> list[float]:
    """Returns the validation accuracy after each epoch."""
    return [value for _, value in result.series("val_accuracy")]


def target_accuracy(results: Sequence[RunResult], reference: str) -> float:
    """Returns the accuracy that `TARGET_RULE` asks for.

    Args:
        results: The runs of all contenders.
        reference: Name of the reference contender.
    """
    return statistics.median(
        max(validation_accuracies(result))
        for result in results
        if result.contender.name == reference
    )


def epochs_to_target(result: RunResult, target: float) -> float:
    """Returns the first epoch that reaches the target, or infinity for a miss."""
    for epoch, accuracy in enumerate(validation_accuracies(result), start=1):
        if accuracy >= target:
            return epoch
    return math.inf


def summarize(results: Sequence[RunResult], target: float) -> list[Row]:
    """Summarizes the runs of each contender over its seeds.

    Diverged runs and misses count as the worst value, so they can never flatter.

    Args:
        results: The runs of all contenders.
        target: The validation accuracy to reach.

    Returns:
        One row a contender, in the order of their first runs.
    """
    groups: dict[str, list[RunResult]] = {}
    for result in results:
        groups.setdefault(result.contender.name, []).append(result)
    return [_row(runs, target) for runs in groups.values()]


def _row(runs: list[RunResult], target: float) -> Row:
    epochs = [epochs_to_target(run, target) for run in runs]
    return Row(
        contender=runs[0].contender,
        runs=len(runs),
        diverged=sum(run.diverged_at is not None for run in runs),
        hits=sum(map(math.isfinite, epochs)),
        test_accuracy=Spread.of(run.test_accuracy for run in runs),
        test_loss=Spread.of(run.test_loss for run in runs),
        epochs_to_target=Spread.of(epochs),
        step_seconds=Spread.of(run.step_seconds for run in runs),
        first_epoch_seconds=Spread.of(run.first_epoch_seconds for run in runs),
    )
