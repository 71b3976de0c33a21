"""From labelled texts to sparse features."""

from dataclasses import dataclass

import numpy as np

from keras_adaptive.study.datasets.dataset import SparseDataset, Split
from keras_adaptive.study.errors import StudyError, needs_extra

with needs_extra("study"):
    from sklearn.feature_extraction.text import TfidfVectorizer


@dataclass(frozen=True)
class LabelledTexts:
    """Texts and the class of each."""

    texts: list[str]
    labels: np.ndarray


MAX_WORDS = 30_000


def vectorize(
    name: str,
    source: str,
    classes: tuple[str, ...],
    train: LabelledTexts,
    validation: LabelledTexts,
    test: LabelledTexts,
    max_words: int,
) -> SparseDataset:
    """Turns texts into rows of unit length that hold log counts times rarity.

    Vocabulary and rarity of the words are those of the training texts alone.

    Args:
        name: Name of the workload.
        source: Where the texts come from, in words.
        classes: Names of the classes.
        train: Texts to train on.
        validation: Texts to choose by.
        test: Texts to judge by.
        max_words: How many of the most frequent words become features.

    Returns:
        The dataset with `scipy` CSR matrices of float32.

    Raises:
        StudyError: If the training texts hold no words.
    """
    vectorizer = TfidfVectorizer(
        sublinear_tf=True, max_features=max_words, dtype=np.float32
    )
    try:
        x = vectorizer.fit_transform(train.texts)
    except ValueError as error:
        raise StudyError(
            f"{source}: the {len(train.texts)} training texts hold no words. Expected "
            "ordinary texts: check that the right column is used as the text."
        ) from error

    def features(texts: list[str]):
        # scikit-learn refuses to transform no texts; the dataset says why it does.
        return vectorizer.transform(texts) if texts else x[:0]

    return SparseDataset(
        name=name,
        source=source,
        classes=classes,
        train=Split(x, train.labels),
        validation=Split(features(validation.texts), validation.labels),
        test=Split(features(test.texts), test.labels),
    )
