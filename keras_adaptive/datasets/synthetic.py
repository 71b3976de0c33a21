"""Tables made up so that the best possible answer is known."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from keras_adaptive.datasets.dataset import Dataset, Split, three_parts
from keras_adaptive.datasets.frames import table
from keras_adaptive.errors import InputError, counted, needs_extra

with needs_extra("study"):
    from scipy.special import expit


@dataclass(frozen=True)
class RareCategories:
    """Tables of two classes in which rare categories tell more than frequent ones.

    A row has a `code`, one of many and the rarer the higher its number (code k occurs
    in proportion to 1/k), a `region`, one of few and all equally frequent, and numbers
    that tell nothing. Each code and each region has a weight; the odds of class 1 in a
    row are exp(weight of its code + weight of its region). The weight of a code is
    `rare_weight`, positive or negative, if fewer than `rare_below` training rows are
    to be expected of it, and `common_weight` else.

    Args:
        rows: Rows in all three parts together.
        codes: How many codes there are.
        regions: How many regions there are.
        numbers: How many numbers there are.
        rare_below: Expected training rows below which a code is rare.
        rare_weight: Size of the weight of a rare code.
        common_weight: Size of the weight of any other code.
        seed: Seed of weights, rows and split.

    Raises:
        InputError: If a count is not a whole number above 0.

    Example:

    >>> tables = RareCategories(rows=4_000)
    >>> data = tables.load()
    >>> sorted(data.train.x), 0.5 < tables.best_accuracy < 1
    (['code', 'numbers', 'region'], True)
    """

    rows: int = 20_000
    codes: int = 2_000
    regions: int = 20
    numbers: int = 4
    rare_below: int = 20
    rare_weight: float = 3.0
    common_weight: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        for field in ("rows", "codes", "regions", "numbers", "rare_below"):
            counted(f"RareCategories: {field}", getattr(self, field))
        if self.rows < 100:
            raise InputError(
                f"RareCategories: rows is {self.rows}. Expected at least 100."
            )

    @cached_property
    def frequencies(self) -> np.ndarray:
        """The probability of each code."""
        weights = 1 / np.arange(1, self.codes + 1)
        return weights / weights.sum()

    @cached_property
    def rare(self) -> np.ndarray:
        """Which codes are rare."""
        return 0.8 * self.rows * self.frequencies < self.rare_below

    @cached_property
    def log_odds(self) -> np.ndarray:
        """The log of the odds of class 1, for each code (row) and region (column)."""
        rng = np.random.default_rng([self.seed, 0])
        sizes = np.where(self.rare, self.rare_weight, self.common_weight)
        codes = sizes * rng.choice([-1, 1], self.codes)
        regions = rng.normal(0, 0.5, self.regions)
        return codes[:, None] + regions

    @property
    def best_accuracy(self) -> float:
        """The expected accuracy of somebody who knows all weights: Bayes's.

        Nobody can do better on rows that nobody has seen.
        """
        return self._expected(np.ones(self.codes, bool))

    @property
    def best_accuracy_on_rare(self) -> float:
        """The same on the rows with a rare code alone."""
        return self._expected(self.rare)

    def _expected(self, codes: np.ndarray) -> float:
        odds = self.log_odds[codes]
        right = expit(np.abs(odds)).mean(axis=1)
        return float(np.average(right, weights=self.frequencies[codes]))

    def load(self) -> Dataset:
        """Makes the table.

        Returns:
            The dataset; its source says the best accuracy there can be.
        """
        rng = np.random.default_rng([self.seed, 1])
        code = rng.choice(self.codes, self.rows, p=self.frequencies)
        region = rng.integers(0, self.regions, self.rows)
        y = rng.random(self.rows) < expit(self.log_odds[code, region])
        columns = {"code": code, "region": region}
        for number in range(self.numbers):
            columns[f"number {number}"] = rng.normal(size=self.rows)
        parts = three_parts(
            Split(columns, y.astype(np.int64)), None, "classification", self.seed
        )
        source = f"made up ({self}), best accuracy {self.best_accuracy:.4f}"
        return table("rare_categories", source, parts, "classification", ("0", "1"))
