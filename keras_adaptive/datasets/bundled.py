"""The small datasets that come with scikit-learn: no network, no files."""

import numpy as np

from keras_adaptive.datasets.dataset import Dataset, Split, three_parts
from keras_adaptive.datasets.frames import table
from keras_adaptive.errors import needs_extra

with needs_extra("study"):
    from sklearn import datasets

BRIGHTEST = 16
"""A pixel of the digits is a whole number from 0 to this."""


def load_digits(seed: int = 0) -> Dataset:
    """Loads 1,797 images of handwritten digits, 8 × 8 pixels from 0 to 1.

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
    """Loads 178 wines of three growers, by 13 measurements.

    Args:
        seed: Seed of the split.
    """
    return _measured("wine", datasets.load_wine(), seed)


def load_breast_cancer(seed: int = 0) -> Dataset:
    """Loads 569 tumours, malignant or benign, by 30 measurements.

    Args:
        seed: Seed of the split.
    """
    return _measured("breast_cancer", datasets.load_breast_cancer(), seed)


def load_diabetes(seed: int = 0) -> Dataset:
    """Loads 442 patients and how far diabetes has gone a year later, a regression.

    Args:
        seed: Seed of the split.
    """
    return _measured("diabetes", datasets.load_diabetes(), seed)


def _measured(name: str, bunch, seed: int) -> Dataset:
    classes = tuple(map(str, bunch.get("target_names", ())))
    task = "classification" if classes else "regression"
    columns = dict(zip(bunch.feature_names, bunch.data.T, strict=True))
    parts = three_parts(Split(columns, bunch.target), None, task, seed)
    return table(name, f"scikit-learn's {name}", parts, task, classes)
