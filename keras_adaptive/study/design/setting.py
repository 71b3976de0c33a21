"""One setting of the hyper-parameters that a study tunes."""

from __future__ import annotations

from dataclasses import dataclass


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
