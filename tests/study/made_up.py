"""Results of a study that nobody ran: what came of each run is a formula."""

import math
from dataclasses import replace

import pandas as pd

from keras_adaptive.study.analysis.run_table import RunTable
from keras_adaptive.study.design.setting import Setting
from keras_adaptive.study.ledger.record import Point, Record
from keras_adaptive.study.results import Results

REFERENCE = "keras/sgd-momentum"
RATES = (0.001, 0.01, 0.1)
STEPS = 40


def made_up_record(
    contender,
    seed,
    workload="digits",
    rate=0.01,
    accuracy=0.9,
    speed=1.0,
    state=1.0,
    **changes,
):
    """A run with four evaluations; `speed` 2 takes half of the time a step."""
    accuracy += seed % 7 / 1_000
    shares = (0.5, 0.8, 0.95, 1.0)
    curve = tuple(
        Point(
            10 * epoch,
            epoch / speed,
            1_000 * epoch,
            {
                "train_loss": 1 / epoch,
                "train_accuracy": accuracy * share,
                "val_loss": 1.5 - accuracy * share,
                "val_accuracy": accuracy * share,
                "epoch": float(epoch),
            },
        )
        for epoch, share in enumerate(shares, start=1)
    )
    numbers = {
        "initial_val_loss": 2.0,
        "first_round_seconds": 1.5,
        "step_seconds": 0.001 / speed,
        "state_per_weight": state,
        "best_val_accuracy": accuracy,
    }
    for part in ("final_train", "final_val", "test"):
        numbers |= {f"{part}_accuracy": accuracy, f"{part}_loss": 1.5 - accuracy}
    return Record(
        **{
            "key": f"{workload} {contender} {rate} {seed}",
            "workload": workload,
            "contender": contender,
            "setting": Setting(rate),
            "phase": "compare",
            "seed": seed,
            "metric": "accuracy",
            "direction": "max",
            "status": "finished",
            "reason": "",
            "started": 0,
            "ended": 1_700_000_000_000,
            "params": {
                "steps": str(STEPS),
                "data": workload,
                "data_source": "made up",
                "data_digest": "d1",
                "batch_size": "32",
                "backend": "tensorflow",
                "floatx": "float32",
                "version.keras": "3.0",
                "machine.system": "a computer",
                "optimizer.epsilon": "1e-07",
            },
            "numbers": numbers,
            "curve": curve,
            **changes,
        }
    )


def without_result(record, status, reason=""):
    """The same run, failed or diverged at the end."""
    gone = ("final", "test", "best")
    numbers = {k: v for k, v in record.numbers.items() if not k.startswith(gone)}
    return replace(record, status=status, reason=reason, numbers=numbers)


def made_up_results(records, reference=REFERENCE, targets=(), **columns):
    """Results of records; each contender has got the rate of its runs for judging."""
    whose = dict.fromkeys((each.workload, each.contender) for each in records)
    rates = {
        (each.workload, each.contender): each.setting.learning_rate
        for each in records
        if each.phase == "compare"
    }
    tuned = pd.DataFrame(
        [
            {
                "workload": workload,
                "contender": contender,
                "trials": len(RATES),
                "tuning_steps": sum(
                    each.steps
                    for each in records
                    if (each.workload, each.contender, each.phase)
                    == (workload, contender, "tune")
                ),
                "pruned_runs": 0,
                "setting": str(rates.get((workload, contender), "none worked")),
                "learning_rate": rates.get((workload, contender), math.nan),
            }
            for workload, contender in whose
        ]
    ).assign(**columns)
    table = RunTable(records, reference, tuned, dict(targets))
    return Results(table, "run", "a study")


def made_up_study(contenders, workloads=("digits",), seeds=8, tuning_seeds=7):
    """A whole study; `contenders` are changes of `made_up_record` by name."""
    records = []
    for workload in workloads:
        for name, changes in contenders.items():
            for seed in range(tuning_seeds):
                for rate in RATES:
                    off = abs(math.log10(rate / 0.01))
                    better = changes.get("accuracy", 0.9) - 0.2 * off
                    tried = {**changes, "accuracy": better, "rate": rate}
                    records.append(
                        made_up_record(
                            name, 10_000 + seed, workload, phase="tune", **tried
                        )
                    )
            records += [
                made_up_record(name, seed, workload, **changes) for seed in range(seeds)
            ]
    return made_up_results(records)
