"""Sparse features of labelled texts."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from keras_adaptive.datasets.dataset import Dataset, Split
from keras_adaptive.errors import InputError, needs_extra

with needs_extra("study"):
    from sklearn.feature_extraction.text import TfidfVectorizer

MAX_WORDS = 30_000


def vectorize(
    name: str,
    source: str,
    classes: tuple[str, ...],
    parts: Iterable[Split],
    max_words: int,
) -> Dataset:
    """Turns texts into sparse rows of unit length: log counts times rarity (TF-IDF).

    Vocabulary and rarity of the words are learned from the training texts alone.

    Args:
        name: Name of the workload.
        source: The origin of the texts, in words.
        classes: Names of the classes.
        parts: The training, the validation and the test part; `x` of each are texts.
        max_words: Number of the most frequent words that become features.

    Returns:
        The dataset with `scipy` CSR matrices of float32.

    Raises:
        InputError: If the training texts hold no words.
    """
    train, validation, test = parts
    vectorizer = TfidfVectorizer(
        sublinear_tf=True, max_features=max_words, dtype=np.float32
    )
    try:
        x = vectorizer.fit_transform(train.x)
    except ValueError as error:
        raise InputError(
            f"{source}: the {len(train.x)} training texts hold no words. Expected "
            "ordinary texts: check that the right column is used as the text."
        ) from error

    def features(part: Split) -> Split:
        # scikit-learn does not transform an empty list; `Dataset` refuses the result.
        return Split(vectorizer.transform(part.x) if len(part.x) else x[:0], part.y)

    return Dataset(
        name,
        source,
        Split(x, train.y),
        features(validation),
        features(test),
        classes=classes,
    )


def keep_words(data: Dataset, count: int) -> Dataset:
    """Returns a dataset of texts with a smaller vocabulary.

    Args:
        data: The dataset.
        count: Number of words to keep: those that occur in most training texts.

    Returns:
        The dataset, with the size of the vocabulary in its name.

    Example:

    >>> from scipy.sparse import csr_matrix
    >>> x = csr_matrix([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    >>> part = Split(x, np.array([0, 1]))
    >>> small = keep_words(Dataset("texts", "made up", part, part, part), 1)
    >>> small.name, small.train.x.toarray().tolist()
    ('texts-1-words', [[1.0], [1.0]])
    """
    x: Any = data.train.x
    by_frequency = np.argsort(-x.getnnz(axis=0), kind="stable")
    words = np.sort(by_frequency[:count])

    def keep(part: Split) -> Split:
        x: Any = part.x
        return Split(x[:, words], part.y)

    return replace(
        data,
        name=f"{data.name}-{len(words)}-words",
        train=keep(data.train),
        validation=keep(data.validation),
        test=keep(data.test),
    )
