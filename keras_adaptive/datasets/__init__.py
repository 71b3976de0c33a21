"""Labelled data to train on, to choose by and to judge by.

The loaders make a `Dataset` of a pandas table, of a file, of scikit-learn's data or of
synthetic rows. `training_batches` feeds one part of it to `fit`. Each name is imported
when it is first used. `Dataset`, `Split` and the batches need Keras alone, the loaders
the extra `study`: `pip install 'keras-adaptive[study]'`.

Example:

>>> from keras_adaptive.datasets import load_wine
>>> load_wine().describe()
'wine: 144 / 18 / 16 rows (train / validation / test), 13 numbers a row, 3 classes'
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_adaptive.datasets.batches import evaluation_batches as evaluation_batches
    from keras_adaptive.datasets.batches import training_batches as training_batches
    from keras_adaptive.datasets.bundled import load_breast_cancer as load_breast_cancer
    from keras_adaptive.datasets.bundled import load_diabetes as load_diabetes
    from keras_adaptive.datasets.bundled import load_digits as load_digits
    from keras_adaptive.datasets.bundled import load_wine as load_wine
    from keras_adaptive.datasets.csv_files import load_csv_texts as load_csv_texts
    from keras_adaptive.datasets.csv_files import load_table as load_table
    from keras_adaptive.datasets.dataset import Dataset as Dataset
    from keras_adaptive.datasets.dataset import Split as Split
    from keras_adaptive.datasets.docstrings import DocstringOptions as DocstringOptions
    from keras_adaptive.datasets.docstrings import load_docstrings as load_docstrings
    from keras_adaptive.datasets.fetched import load_adult as load_adult
    from keras_adaptive.datasets.fetched import (
        load_california_housing as load_california_housing,
    )
    from keras_adaptive.datasets.fetched import load_covertype as load_covertype
    from keras_adaptive.datasets.fetched import load_openml as load_openml
    from keras_adaptive.datasets.frames import load_frame as load_frame
    from keras_adaptive.datasets.images import load_fashion_mnist as load_fashion_mnist
    from keras_adaptive.datasets.newsgroups import load_newsgroups as load_newsgroups
    from keras_adaptive.datasets.rare import rare_rows as rare_rows
    from keras_adaptive.datasets.rare import rare_slice as rare_slice
    from keras_adaptive.datasets.svmlight import load_svmlight as load_svmlight
    from keras_adaptive.datasets.synthetic import RareCategories as RareCategories
    from keras_adaptive.datasets.text import keep_words as keep_words

_PLACES = {
    "Dataset": "dataset",
    "DocstringOptions": "docstrings",
    "RareCategories": "synthetic",
    "Split": "dataset",
    "evaluation_batches": "batches",
    "keep_words": "text",
    "load_adult": "fetched",
    "load_breast_cancer": "bundled",
    "load_california_housing": "fetched",
    "load_covertype": "fetched",
    "load_csv_texts": "csv_files",
    "load_diabetes": "bundled",
    "load_digits": "bundled",
    "load_docstrings": "docstrings",
    "load_fashion_mnist": "images",
    "load_frame": "frames",
    "load_newsgroups": "newsgroups",
    "load_openml": "fetched",
    "load_svmlight": "svmlight",
    "load_table": "csv_files",
    "load_wine": "bundled",
    "rare_rows": "rare",
    "rare_slice": "rare",
    "training_batches": "batches",
}

__all__ = list(_PLACES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
