"""An executor that trains nothing: what comes of a run is a formula of its setting."""

import math
from contextlib import contextmanager

from keras_adaptive.study.ledger.record import Point

BEST_RATE = {"sgd": 0.1, "adam": 0.001}


def scripted(trial, started=1_000):
    """The record of a run: the nearer to the best rate, the better the metric."""
    best = BEST_RATE.get(trial.contender.label, 0.01)
    off = abs(math.log10(trial.setting.learning_rate / best))
    accuracy = 0.9 - 0.1 * off - 0.001 * (trial.seed % 7)
    curve = tuple(
        Point(
            4 * epoch,
            float(epoch),
            started + epoch,
            {
                "train_loss": 1 / epoch,
                "train_accuracy": accuracy * epoch / 3,
                "val_loss": 1 - accuracy * epoch / 3,
                "val_accuracy": accuracy * epoch / 3,
                "learning_rate": trial.setting.learning_rate,
                "epoch": float(epoch),
            },
        )
        for epoch in (1, 2, 3)
    )
    numbers = {
        "initial_val_loss": 2.0,
        "initial_val_accuracy": 0.1,
        "first_round_seconds": 1.5,
        "step_seconds": math.nan,
        "best_val_accuracy": accuracy,
    }
    for part in ("final_train", "final_val", "test"):
        numbers |= {f"{part}_accuracy": accuracy, f"{part}_loss": 1 - accuracy}
    return trial.record("finished", started, "", numbers, curve)


class Scripted:
    """An executor that makes `scripted` records, and remembers of which trials.

    Args:
        make: Makes a record of a trial.
        interrupt_after: After how many runs the keyboard interrupts; `None` for never.
    """

    def __init__(self, make=scripted, interrupt_after=None):
        self.make = make
        self.interrupt_after = interrupt_after
        self.made = []

    @contextmanager
    def start(self, data):
        self._waiting = []
        yield self

    def submit(self, trial):
        self._waiting.append(trial)

    def results(self):
        while self._waiting:
            if len(self.made) == self.interrupt_after:
                raise KeyboardInterrupt
            trial = self._waiting.pop(0)
            self.made.append(trial)
            yield self.make(trial)

    def ran(self):
        """Who ran, with which rate and seed."""
        return sorted(
            (trial.contender.label, trial.setting.learning_rate, trial.seed)
            for trial in self.made
        )
