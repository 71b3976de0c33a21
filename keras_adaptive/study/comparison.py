"""A comparison of optimizers from the first run to the table, the plots and MLflow."""

import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras

from keras_adaptive.study import tables
from keras_adaptive.study.datasets.dataset import Dataset
from keras_adaptive.study.errors import StudyError, needs_extra
from keras_adaptive.study.ledger import Ledger, quiet_mlflow, record, store_location
from keras_adaptive.study.plots import save_curves
from keras_adaptive.study.results import (
    TARGET_RULE,
    Row,
    summarize,
    target_accuracy,
)
from keras_adaptive.study.training import (
    Contender,
    Protocol,
    RunResult,
    plan,
    train,
)

with needs_extra("study"):
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

SOFTWARE = ("keras-adaptive", "keras", "tensorflow", "tensorflow-cpu", "numpy")
STEPS_PER_REFRESH = 10


@dataclass(frozen=True)
class Comparison:
    """What came of a comparison.

    Args:
        results: The runs.
        target: The validation accuracy that `TARGET_RULE` asks for.
        rows: The table.
        files: Where the table and the plots are.
    """

    results: list[RunResult]
    target: float
    rows: list[Row]
    files: list[Path]


def installed_software() -> dict[str, str]:
    """Returns the versions of the installed packages that decide the numbers."""
    versions = {}
    for package in SOFTWARE:
        try:
            versions[f"version.{package}"] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def run_all(
    ledger: Ledger,
    data: Dataset,
    contenders: Sequence[Contender],
    build_model: Callable[[int], keras.Model],
    protocol: Protocol,
    console: Console,
    phase: str = "compare",
) -> list[RunResult]:
    """Trains every contender with every seed and records each run when it ends.

    Args:
        ledger: Where to record, with the study's run open.
        data: What to learn.
        contenders: Who takes part.
        build_model: Builds the model for a seed.
        protocol: How long to train and with which seeds.
        console: Where to show the progress.
        phase: What the runs are for: `"compare"` or `"tune"`.

    Returns:
        The results in the order of the runs.
    """
    runs = list(plan(contenders, protocol))
    steps_per_epoch = protocol.steps_per_epoch(len(data.train.y))
    steps_per_run = steps_per_epoch * protocol.epochs
    results: list[RunResult] = []
    with Progress(
        TextColumn("{task.fields[done]} runs done, {task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("steps,"),
        TimeElapsedColumn(),
        TextColumn("gone,"),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
        transient=True,
    ) as progress:
        task = progress.add_task("", total=steps_per_run * len(runs), done="0")
        for number, (contender, seed) in enumerate(runs):
            steps = 0

            def show(contender=contender, seed=seed, number=number):
                nonlocal steps
                steps += 1
                if steps % STEPS_PER_REFRESH == 0:
                    epoch = -(-steps // steps_per_epoch)
                    progress.update(
                        task,
                        completed=number * steps_per_run + steps,
                        done=f"{number}/{len(runs)}",
                        description=f"{contender.name} seed {seed} "
                        f"epoch {epoch}/{protocol.epochs}",
                    )

            with ledger.child(data, contender, seed, phase) as run:
                result = train(build_model, contender, data, protocol, seed, show)
                record(run, result)
            results.append(result)
            progress.update(task, completed=(number + 1) * steps_per_run)
            console.print(finished_line(result, number + 1, len(runs)))
    return results


def finished_line(result: RunResult, number: int, total: int) -> str:
    """Returns the line that says how a run ended."""
    if result.diverged_at is None:
        outcome = f"test accuracy {result.test_accuracy:.3f}"
    else:
        outcome = f"diverged at step {result.diverged_at}"
    return f"{number:>3}/{total} {result.contender.name}, seed {result.seed}: {outcome}"


def compare(
    name: str,
    data: Dataset,
    contenders: Sequence[Contender],
    reference: str,
    build_model: Callable[[int], keras.Model],
    protocol: Protocol,
    output: Path,
    console: Console,
) -> Comparison:
    """Compares optimizers on one dataset, paired by seed.

    Args:
        name: Name of the study and of its MLflow experiment.
        data: What to learn.
        contenders: Who takes part, in the order of the table.
        reference: Name of the contender that sets the target.
        build_model: Builds the model, its initial weights decided by the seed.
        protocol: How long to train and with which seeds.
        output: Folder for the table and the plots.
        console: Where to show progress and table.

    Returns:
        The results, also printed, written to `output` and recorded in MLflow.

    Raises:
        StudyError: If the results could not be written or recorded, before any
            training.
    """
    folder = output / f"{name}-{data.name.replace(':', '-')}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(
            f"The folder {folder} cannot be made ({error}). Name another with --output."
        ) from error
    params = {
        "workload": data.name,
        "data": data.describe(),
        "data_digest": data.digest,
        "epochs": protocol.epochs,
        "batch_size": protocol.batch_size,
        "seeds": ", ".join(map(str, protocol.seeds)),
        "contenders": ", ".join(contender.name for contender in contenders),
        "reference": reference,
        **installed_software(),
    }
    with quiet_mlflow():
        ledger = Ledger(name)
        with ledger.study(f"{name} on {data.name}", params) as study:
            results = run_all(ledger, data, contenders, build_model, protocol, console)
            target = target_accuracy(results, reference)
            rows = summarize(results, target)
            title = f"{name} on {data.name}"
            seeds = len(protocol.seeds)
            caption = (
                f"Median [range] over {seeds} seed{'s' if seeds > 1 else ''}. "
                f"{TARGET_RULE.format(reference=reference)}. Here the target is "
                f"{target:.4f}. ms per step: without the first epoch, which "
                "includes compilation."
            )
            files = [
                save_curves(results, title, folder / "curves.png"),
                folder / "table.md",
                folder / "table.csv",
            ]
            files[1].write_text(
                tables.to_markdown(rows, title, caption), encoding="utf-8"
            )
            files[2].write_text(tables.to_csv(rows), encoding="utf-8")
            for file in files:
                study.artifact(file)
            study.describe({"target_accuracy": f"{target:.6f}"})
        console.print(tables.to_rich(rows, title, caption))
        console.print(f"Plots and tables: {folder}")
        console.print(f"Runs in MLflow: {store_location()}; see 'keras-adaptive ui'")
    return Comparison(results, target, rows, files)
