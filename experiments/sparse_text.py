"""Who learns bag-of-words text best, and what does a step cost as the vocabulary grows?

A text is a sparse row of word weights, of which a batch touches a few thousand. The
accuracy on all test texts stands beside that on texts whose informative words are rare
in training. Each vocabulary is a workload; it needs Keras on TensorFlow.

    keras-adaptive run sparse_text --quick
    keras-adaptive run sparse_text --data svmlight:news20.bz2
"""

import sys
from collections.abc import Sequence

from keras_adaptive.commands.experiment import Experiment
from keras_adaptive.datasets.batches import require_tensorflow
from keras_adaptive.datasets.rare import rare_slice
from keras_adaptive.datasets.text import keep_words
from keras_adaptive.study import Dataset, Epochs, Protocol, Results, Study
from keras_adaptive.study.analysis import promises
from keras_adaptive.study.analysis.verdicts import Verdict
from keras_adaptive.study.design.defaults import default_contenders, default_workload

VOCABULARIES = (10_000, 20_000, 30_000)
OPTIMIZERS = ["keras/adagrad", "adagrad", "rmsprop", "keras/adam", "adam", "adamw"]


def study(data: Sequence[Dataset], quick: bool) -> Study:
    """Makes the study of some texts, with several vocabularies each."""
    require_tensorflow()
    trials, seeds, epochs = (3, 7, 2) if quick else (7, 8, 4)
    texts = [
        keep_words(each, words)
        for each in data
        for words in VOCABULARIES[: 2 if quick else 3]
        if words == VOCABULARIES[0] or words <= each.features
    ]
    names = ["adam"] if quick else OPTIMIZERS
    contenders = default_contenders(names, trials)
    return Study(
        "sparse_text",
        [default_workload(each, Epochs(epochs), rare_slice) for each in texts],
        contenders,
        Protocol(trials, seeds=seeds, reference=contenders[0]),
    )


def judge(results: Results) -> list[Verdict]:
    """Judges accuracy, and how the cost of a step grows with the vocabulary."""
    runs, reference = results.runs, results.reference
    accuracy = promises.sparse(runs, reference, results.directions)
    text = runs["workload"].str.extract(r"(?P<workload>.*)-(?P<vocabulary>\d+)-words")
    runs = runs.assign(**text.astype({"vocabulary": int}))
    if runs["vocabulary"].nunique() == 1:
        return accuracy
    return accuracy + promises.step_cost(runs, reference, phase="compare")


main = Experiment(
    __doc__,
    data=["docstrings"],
    quick_data=["docstrings"],
    study=study,
    judge=judge,
).main

if __name__ == "__main__":
    sys.exit(main())
