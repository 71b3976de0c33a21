"""Which optimizer learns bags of words best, and how does the cost of a step grow?

A text is a sparse row of word weights; a batch touches a few thousand words. Accuracy
is measured on all test texts, and on the texts whose informative words are rare in
training. Each size of the vocabulary is a workload. Needs Keras on TensorFlow.

    keras-adaptive run sparse_text --quick
    keras-adaptive run sparse_text --data svmlight:news20.bz2

In Python:

    from keras_adaptive.datasets import load_docstrings
    from keras_adaptive.experiments.sparse_text import study

    results = study([load_docstrings()], quick=True).run()
    verdicts = results.verdicts()
"""

import sys
from collections.abc import Sequence

from keras_adaptive.commands.experiment import Experiment
from keras_adaptive.datasets import Dataset, keep_words, rare_slice
from keras_adaptive.datasets.batches import require_tensorflow
from keras_adaptive.study import Epochs, Protocol, RunTable, Study
from keras_adaptive.study.analysis import promises
from keras_adaptive.study.analysis.verdicts import Verdict
from keras_adaptive.study.design.defaults import default_contenders, default_workload

VOCABULARIES = (10_000, 20_000, 30_000)
OPTIMIZERS = ["keras/adagrad", "adagrad", "rmsprop", "keras/adam", "adam", "adamw"]
REFERENCE = "keras/sgd-momentum"
FULL = Protocol(tuning_trials=7, seeds=8, reference=REFERENCE)
QUICK = Protocol(tuning_trials=3, seeds=7, reference=REFERENCE)


def judge(table: RunTable) -> list[Verdict]:
    """Judges accuracy, and how the cost of a step grows with the vocabulary."""
    runs, reference = table.runs, table.reference
    accuracy = promises.sparse(runs, reference, table.directions)
    text = runs["workload"].str.extract(r"(?P<workload>.*)-(?P<vocabulary>\d+)-words")
    runs = runs.assign(**text.astype({"vocabulary": int}))
    if runs["vocabulary"].nunique() == 1:
        return accuracy
    return accuracy + promises.step_cost(runs, reference, phase="compare")


def study(data: Sequence[Dataset], quick: bool = False) -> Study:
    """Makes the study of some texts, each with several vocabularies."""
    require_tensorflow()
    protocol = QUICK if quick else FULL
    budget = Epochs(2 if quick else 4)
    texts = [
        keep_words(each, words)
        for each in data
        for words in VOCABULARIES[: 2 if quick else 3]
        if words == VOCABULARIES[0] or words <= each.features
    ]
    names = ["adam"] if quick else OPTIMIZERS
    return Study(
        "sparse_text",
        workloads=[default_workload(each, budget, slices=rare_slice) for each in texts],
        contenders=default_contenders(names, protocol.tuning_trials),
        protocol=protocol,
        judge=judge,
    )


main = Experiment(
    description=__doc__,
    data=["docstrings"],
    quick_data=["docstrings"],
    study=study,
).main

if __name__ == "__main__":
    sys.exit(main())
