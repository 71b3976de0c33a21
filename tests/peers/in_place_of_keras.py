"""A pytest plugin: Keras's own tests meet our classes in place of Keras's.

    pytest -p in_place_of_keras FILES_OF_KERAS

It puts our classes where Keras defines its own of the same name, and where strings such
as "adam" are looked up, before the tests import them.
"""

import importlib
import inspect

import keras
import pytest
from does_not_apply import why_not
from keras.src import optimizers

import keras_adaptive

NAMESAKES = [
    name
    for name in keras_adaptive.optimizers.__all__
    if inspect.isclass(getattr(keras.optimizers, name, None))
]


def pytest_configure(config):
    if keras.backend.backend() == "torch":
        from keras.src.backend.torch.optimizers.torch_optimizer import TorchOptimizer

        # It turns the class under each name of Keras's into one of Keras's own.
        TorchOptimizer.__new__ = lambda cls, *args, **kwargs: object.__new__(cls)
    for name in NAMESAKES:
        ours, theirs = (getattr(k.optimizers, name) for k in (keras_adaptive, keras))
        module = importlib.import_module(theirs.__module__)
        for place in (module, optimizers, keras.optimizers):
            setattr(place, name, ours)
        optimizers.ALL_OBJECTS_DICT[name.lower()] = ours


def pytest_collection_modifyitems(items):
    for item in items:
        test = f"{item.path.stem}::{item.nodeid.partition('::')[2]}"
        reason = why_not(test)
        if reason:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
