"""One setting of the hyper-parameters that a study tunes."""

from __future__ import annotations

from dataclasses import dataclass

COLUMNS = (
    *("workload", "contender", "phase", "learning_rate", "seed", "key", "status"),
    *("reason", "initial_loss", "state_per_weight", "trials", "setting", "step"),
    *("seconds", "measure", "value", "steps_to_target", "epochs_to_target"),
    *("seconds_to_target", "first_round_seconds", "step_seconds", "tuning_steps"),
    "pruned_runs",
)
"""Columns that a study's tables have anyway, besides those of metrics and losses."""


def column_of(hyperparameter: str) -> str:
    """Returns the column of a hyper-parameter in a study's tables.

    Example:
        >>> column_of("epsilon"), column_of("seed")
        ('epsilon', 'hyperparameter.seed')
    """
    taken = hyperparameter in COLUMNS or hyperparameter.endswith(("_metric", "_loss"))
    return f"hyperparameter.{hyperparameter}" if taken else hyperparameter


@dataclass(frozen=True)
class Setting:
    """The values of the hyper-parameters that are tuned.

    Args:
        learning_rate: The learning rate.
        extra_hyperparameter: Name and value of the hyper-parameter that is tuned
            besides the learning rate, if there is one.

    Example:
        >>> str(Setting(0.01, ("epsilon", 1e-8)))
        'learning rate 0.01, epsilon 1e-08'
    """

    learning_rate: float
    extra_hyperparameter: tuple[str, float] | None = None

    def __str__(self) -> str:
        """Returns the setting in words."""
        rate = f"learning rate {self.learning_rate:g}"
        if self.extra_hyperparameter is None:
            return rate
        name, value = self.extra_hyperparameter
        return f"{rate}, {name} {value:g}"
