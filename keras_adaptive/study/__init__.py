"""Compare optimizers fairly, on real data, with every run recorded in MLflow.

The pieces are small and can be used one by one:

- `keras_adaptive.study.corpora`: labelled sparse data (docstrings, newsgroups,
  LIBSVM and CSV files), split and vectorized.
- `keras_adaptive.study.training`: one contender trained once with one seed.
- `keras_adaptive.study.ledger`: the record of the runs in MLflow.
- `keras_adaptive.study.results` and `keras_adaptive.study.tables`: what the runs say.
- `keras_adaptive.study.plots`: the curves of the runs.
- `keras_adaptive.study.statistics`: pure functions over arrays, infinity included.
- `keras_adaptive.study.verdicts`, `keras_adaptive.study.promises` and
  `keras_adaptive.study.robustness`: whether a promise was kept, and how sure that is.
- `keras_adaptive.study.pictures`: sensitivity, profile, ranks and effects.
- `keras_adaptive.study.comparison`: all of the above in one call.

They need the extra `study`: `pip install 'keras-adaptive[study]'`.
"""
