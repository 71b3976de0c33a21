"""The small datasets that are part of scikit-learn; they need no network."""

from typing import Any

import numpy as np

from keras_adaptive.datasets.dataset import Dataset, Split, Task
from keras_adaptive.datasets.frames import table
from keras_adaptive.datasets.splitting import three_parts
from keras_adaptive.errors import needs_extra

with needs_extra("study"):
    from sklearn import datasets

BRIGHTEST = 16
"""The highest value of a pixel of the digits; the lowest is 0."""


def load_digits(seed: int = 0) -> Dataset:
    """Loads 1,797 images of handwritten digits: 8 × 8 pixels between 0 and 1.

    Args:
        seed: Seed of the split.

    Example:

    >>> load_digits().train.x.shape
    (1442, 64)
    """
    bunch = datasets.load_digits()
    pixels = (bunch.data / BRIGHTEST).astype(np.float32)
    parts = three_parts(Split(pixels, bunch.target), None, "classification", seed)
    return Dataset(
        "digits",
        "scikit-learn's digits",
        *parts,
        classes=tuple(map(str, bunch.target_names)),
    )


def load_wine(seed: int = 0) -> Dataset:
    """Loads 178 wines of three growers, with 13 measurements each.

    Args:
        seed: Seed of the split.
    """
    return _measured("wine", datasets.load_wine(), seed)


def load_breast_cancer(seed: int = 0) -> Dataset:
    """Loads 569 malignant or benign tumours, with 30 measurements each.

    Args:
        seed: Seed of the split.
    """
    return _measured("breast_cancer", datasets.load_breast_cancer(), seed)


def load_diabetes(seed: int = 0) -> Dataset:
    """Loads 442 patients and the progress of diabetes after a year, a regression.

    Args:
        seed: Seed of the split.
    """
    return _measured("diabetes", datasets.load_diabetes(), seed)


def _measured(name: str, bunch: Any, seed: int) -> Dataset:
    classes = tuple(map(str, bunch.get("target_names", ())))
    task: Task = "classification" if classes else "regression"
    columns = dict(zip(bunch.feature_names, bunch.data.T, strict=True))
    parts = three_parts(Split(columns, bunch.target), None, task, seed)
    return table(name, f"scikit-learn's {name}", parts, task, classes)
