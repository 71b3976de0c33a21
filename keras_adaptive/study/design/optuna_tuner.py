"""Tuning by Optuna: its samplers choose the settings, in place of a grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from keras_adaptive.errors import InputError, counted, did_you_mean, needs_extra
from keras_adaptive.plain_numbers import make_plain
from keras_adaptive.study.design.contender import Contender
from keras_adaptive.study.design.optuna_pruning import (
    OptunaPruning,
    new_study,
    quiet,
    tell,
)
from keras_adaptive.study.design.setting import Setting
from keras_adaptive.study.design.tuner import Tried, Tuner

with needs_extra("optuna"):
    import optuna
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

LEARNING_RATE = "learning_rate"
LARGEST_SEED = 2**32 - 1
REHEARSED = 4
"""The number of learning rates that a sampler is tried with."""

MakeSampler = Callable[[int], BaseSampler]


@dataclass(frozen=True)
class OptunaTuner(Tuner):
    """Tunes by a sampler of Optuna, and stops hopeless runs by a pruner.

    It needs the extra `optuna`. Every contender has the same number of trials,
    `Protocol(tuning_trials=...)`, and learning rates from a range of the same width.
    A value of its extra hyper-parameter is chosen together with the rate.

    A round of trials is asked for at once. The next round begins when all runs of it
    are done, so the result depends neither on the number of processes nor on
    interruptions.

    Args:
        sampler: `"tpe"`, `"gp"`, `"qmc"` or `"random"`, or a function from a seed to
            any sampler of Optuna. `"gp"` needs PyTorch.
        seed: The seed of the sampler, one for all contenders.
        round_size: The number of trials that are asked for at once. The first round
            of `"tpe"` and `"gp"` is drawn at random.
        decades: The distance of the lowest and of the highest learning rate from the
            middle, in decades. The middle is the contender's default rate, or the
            geometric middle of its `learning_rates`.
        pruner: A pruner of Optuna; `None` for none. It compares a run with the runs
            of earlier rounds with the same seed, by the validation metric. A setting
            with a pruned run is never chosen.

    Raises:
        InputError: If an argument cannot be used, or if the sampler gives other rates
            with the same seed.

    Example:
        >>> import optuna
        >>> tuner = OptunaTuner(pruner=optuna.pruners.MedianPruner(n_startup_trials=3))
        >>> str(tuner)
        'Optuna: tpe, seed 0, rounds of 3, 2 decades each way, MedianPruner'
    """

    sampler: str | MakeSampler = "tpe"
    seed: int = 0
    round_size: int = 3
    decades: float = 2.0
    pruner: BasePruner | None = None

    def __post_init__(self) -> None:
        """Checks the arguments and tries the sampler."""
        make_plain(self, "seed", "round_size", "decades")
        counted("OptunaTuner: round_size", self.round_size)
        if type(self.seed) is not int or not 0 <= self.seed <= LARGEST_SEED:
            raise InputError(
                f"OptunaTuner: seed is {self.seed!r}. Expected a whole number from 0 "
                f"to {LARGEST_SEED}."
            )
        if type(self.decades) not in (int, float) or not 0 < self.decades < math.inf:
            raise InputError(
                f"OptunaTuner: decades is {self.decades!r}. Expected a finite number "
                "above 0."
            )
        if self.pruner is not None and not isinstance(self.pruner, BasePruner):
            raise InputError(
                f"OptunaTuner: pruner is {self.pruner!r}. Expected an instance of a "
                "class in optuna.pruners, such as MedianPruner(), or None."
            )
        self._check_sampler()

    def _check_sampler(self) -> None:
        if isinstance(self.sampler, str) and self.sampler not in SAMPLERS:
            near = did_you_mean(self.sampler, SAMPLERS)
            raise InputError(
                f"OptunaTuner: there is no sampler {self.sampler!r}.{near} Expected "
                f"one of {', '.join(SAMPLERS)}, or a function from a seed to a sampler."
            )
        if not isinstance(self.sampler, str) and (
            isinstance(self.sampler, BaseSampler) or not callable(self.sampler)
        ):
            raise InputError(
                f"OptunaTuner: sampler is {self.sampler!r}. Expected a name or a "
                "function from a seed to a new sampler, such as "
                "lambda seed: optuna.samplers.TPESampler(seed=seed)."
            )
        if self._rehearsal() != self._rehearsal():
            raise InputError(
                f"OptunaTuner: the sampler {self._sampler_name} gives other learning "
                "rates with the same seed, so no study could be resumed. Pass the "
                "seed on to everything that draws."
            )

    def _rehearsal(self) -> list[float]:
        """Returns what the sampler does first, in a study without runs."""
        try:
            with quiet():
                study = new_study(self._new_sampler(), self.pruner)
                rates = []
                for number in range(REHEARSED):
                    trial = study.ask()
                    rates.append(_suggested_rate(trial, 1e-3, 1e-1))
                    study.tell(trial, float(number))
                return rates
        except Exception as error:
            raise InputError(
                f"OptunaTuner: the sampler {self._sampler_name} cannot choose a "
                f"learning rate: {type(error).__name__}: {error}"
            ) from error

    def _new_sampler(self) -> BaseSampler:
        if isinstance(self.sampler, str):
            return SAMPLERS[self.sampler](self.seed, self.round_size)
        made = self.sampler(self.seed)
        if not isinstance(made, BaseSampler):
            raise TypeError(f"{made!r} is not a sampler of Optuna")
        return made

    @property
    def _sampler_name(self) -> str:
        if isinstance(self.sampler, str):
            return self.sampler
        return getattr(self.sampler, "__qualname__", type(self.sampler).__name__)

    @property
    def prunes(self) -> bool:
        """Whether it stops runs early."""
        return self.pruner is not None

    def __str__(self) -> str:
        """Returns the tuner in words."""
        words = (
            f"Optuna: {self._sampler_name}, seed {self.seed}, rounds of "
            f"{self.round_size}, {self.decades:g} decades each way"
        )
        return f"{words}, {type(self.pruner).__name__}" if self.pruner else words

    def span(self, contender: Contender, trials: int) -> list[Setting]:
        """Returns the ends of the range, see `Tuner`."""
        if contender.is_fixed:
            return contender.grid(trials)
        rates = contender.learning_rates
        if rates is not None and len(rates) == 1:
            raise InputError(
                f"{contender.label} has a single learning rate, but several values of "
                "another hyper-parameter. OptunaTuner tunes the rate, too: give none "
                "for the default, or two or more, in whose middle the range lies."
            )
        return [
            setting
            for rate in self._range(contender)
            for setting in contender.settings_at(rate)
        ]

    def _range(self, contender: Contender) -> tuple[float, float]:
        """Returns the lowest and the highest learning rate of a contender."""
        middle = contender.middle_learning_rate
        low, high = (
            rounded(middle * 10**each) for each in (-self.decades, self.decades)
        )
        return low, high

    def settings(
        self, contender: Contender, trials: int, tried: Mapping[Setting, Tried]
    ) -> list[Setting]:
        """Returns the settings of all rounds that can be asked for, see `Tuner`.

        A setting that is asked for again counts as a trial, and is not run again.
        """
        settings: list[Setting] = []
        low, high = self._range(contender)
        with quiet():
            study = new_study(self._new_sampler(), self.pruner)
            while len(settings) < trials:
                asked: list[tuple[optuna.Trial, Setting]] = []
                for _ in range(min(self.round_size, trials - len(settings))):
                    trial = study.ask()
                    rate = _suggested_rate(trial, low, high)
                    asked.append((trial, _suggested_setting(trial, rate, contender)))
                settings += [setting for _, setting in asked]
                if any(setting not in tried for _, setting in asked):
                    break
                for trial, setting in asked:
                    tell(study, trial, tried[setting])
        return settings

    def pruning(
        self,
        settings: Sequence[Setting],
        setting: Setting,
        tried: Mapping[Setting, Tried],
    ) -> OptunaPruning | None:
        """Returns what asks the pruner about a run, see `Tuner`."""
        if self.pruner is None:
            return None
        number = settings.index(setting)
        first_of_round = number - number % self.round_size
        earlier = tuple(tried[each] for each in settings[:first_of_round])
        return OptunaPruning(self.pruner, number, earlier)


def rounded(rate: float) -> float:
    """Returns a learning rate with six digits, as a run's key takes it.

    Example:
        >>> rounded(0.00123456789)
        0.00123457
    """
    return float(f"{rate:.6g}")


def _suggested_rate(trial: optuna.Trial, low: float, high: float) -> float:
    return rounded(trial.suggest_float(LEARNING_RATE, low, high, log=True))


def _suggested_setting(
    trial: optuna.Trial, rate: float, contender: Contender
) -> Setting:
    if contender.extra_hyperparameter is None:
        return Setting(rate)
    name, values = contender.extra_hyperparameter
    return Setting(rate, (name, trial.suggest_categorical(name, values)))


def _tpe(seed: int, startup: int) -> BaseSampler:
    return optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=startup, constant_liar=True
    )


def _gp(seed: int, startup: int) -> BaseSampler:
    return optuna.samplers.GPSampler(seed=seed, n_startup_trials=startup)


def _qmc(seed: int, startup: int) -> BaseSampler:
    return optuna.samplers.QMCSampler(seed=seed, scramble=True)


def _random(seed: int, startup: int) -> BaseSampler:
    return optuna.samplers.RandomSampler(seed=seed)


SAMPLERS: dict[str, Callable[[int, int], BaseSampler]] = {
    "tpe": _tpe,
    "gp": _gp,
    "qmc": _qmc,
    "random": _random,
}
"""The samplers that have a name, from a seed and the number of random trials."""
