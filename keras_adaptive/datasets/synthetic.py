"""Synthetic tables whose best possible accuracy is known."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from keras_adaptive.datasets.dataset import Dataset, Split
from keras_adaptive.datasets.frames import table
from keras_adaptive.datasets.splitting import three_parts
from keras_adaptive.errors import InputError, counted, needs_extra
from keras_adaptive.plain_numbers import make_plain

with needs_extra("study"):
    from scipy.special import expit


@dataclass(frozen=True)
class RareCategories:
    """A table of two classes with rare categories that are the most informative.

    Each row has a `code`, a `region` and some numbers. There are many codes; code k
    occurs in proportion to 1/k. There are few regions, all equally frequent. The
    numbers are noise. Each code and each region has a weight; the odds of class 1 in a
    row are exp(weight of the code + weight of the region). The weight of a rare code is
    plus or minus `rare_weight`, that of any other code plus or minus `common_weight`. A
    code is rare if fewer than `rare_below` training rows are expected to have it.

    Args:
        rows: Number of rows in all three parts together.
        codes: Number of codes.
        regions: Number of regions.
        numbers: Number of columns of noise.
        rare_below: Expected number of training rows below which a code is rare.
        rare_weight: Absolute weight of a rare code.
        common_weight: Absolute weight of any other code.
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
        make_plain(self, "rare_weight", "common_weight", "seed")
        for field in ("rows", "codes", "regions", "numbers", "rare_below"):
            make_plain(self, field)
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
        """True for each rare code."""
        return 0.8 * self.rows * self.frequencies < self.rare_below

    @cached_property
    def log_odds(self) -> np.ndarray:
        """The log odds of class 1 for each code (row) and region (column)."""
        rng = np.random.default_rng([self.seed, 0])
        sizes = np.where(self.rare, self.rare_weight, self.common_weight)
        codes = sizes * rng.choice([-1, 1], self.codes)
        regions = rng.normal(0, 0.5, self.regions)
        return codes[:, None] + regions

    @property
    def best_accuracy(self) -> float:
        """The expected accuracy of a classifier that knows all weights.

        This is the Bayes classifier: no other is expected to be better on unseen rows.
        """
        return self._expected(np.ones(self.codes, bool))

    @property
    def best_accuracy_on_rare(self) -> float:
        """The expected accuracy of the Bayes classifier on rows with a rare code."""
        return self._expected(self.rare)

    def _expected(self, codes: np.ndarray) -> float:
        odds = self.log_odds[codes]
        right = expit(np.abs(odds)).mean(axis=1)
        return float(np.average(right, weights=self.frequencies[codes]))

    def load(self) -> Dataset:
        """Makes the table.

        Returns:
            The dataset; its source contains the best possible accuracy.
        """
        rng = np.random.default_rng([self.seed, 1])
        code = rng.choice(self.codes, self.rows, p=self.frequencies)
        region = rng.integers(0, self.regions, self.rows)
        y = rng.random(self.rows) < expit(self.log_odds[code, region])
        columns: dict[str, np.ndarray] = {"code": code, "region": region}
        for number in range(self.numbers):
            columns[f"number {number}"] = rng.normal(size=self.rows)
        parts = three_parts(
            Split(columns, y.astype(np.int64)), None, "classification", self.seed
        )
        source = f"made up ({self}), best accuracy {self.best_accuracy:.4f}"
        return table("rare_categories", source, parts, "classification", ("0", "1"))
