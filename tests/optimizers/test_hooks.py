"""The private parts of Keras that our optimizers override, call or read.

A Keras release that drops or renames one of them is noticed here.
"""

import inspect
import re
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_adaptive
from keras_adaptive import optimizers
from keras_adaptive.optimizers.adapter.applying import AppliesGradients
from keras_adaptive.optimizers.adapter.decaying import DecaysVariables
from keras_adaptive.optimizers.engine.backend import in_own_dtype

BACKEND = keras.backend.backend()
OPTIMIZER = keras.optimizers.Optimizer

OVERRIDDEN = {
    "_backend_apply_gradients": ["grads", "trainable_variables"],
    "_clip_gradients": ["grads"],
    "_use_weight_decay": ["variable"],
    "add_variable_from_reference": ["reference_variable", "name", "initializer"],
    "apply": ["grads", "trainable_variables"],
    "build": ["variables"],
    "exclude_from_weight_decay": ["var_list", "var_names"],
    "finalize_variable_values": ["var_list"],
    "from_config": ["custom_objects"],  # after the config: a class method
    "get_config": [],
    "load_own_variables": ["store"],
    "save_own_variables": ["store"],
    "set_weights": ["weights"],
    "update_step": ["gradient", "variable", "learning_rate"],
}
CALLED = {
    "_check_variables_are_known": ["variables"],
    "_get_variable_index": ["variable"],
    "_overwrite_variable_with_gradient": ["variable"],
    "_track_variable": ["variable"],
    "add_variable": ["shape", "initializer", "dtype", "aggregation", "layout", "name"],
    "assign": ["variable", "value"],
}
CALLED_ON_TENSORFLOW = {"_all_reduce_sum_gradients": ["grads_and_vars"]}
READ = {
    "_accumulated_gradients",
    "_iterations",
    "_learning_rate",
    "_model_variables_moving_average",
    "_trainable_variables",
    "_exclude_from_weight_decay_pattern",
}
READ_ON_TENSORFLOW = {"_distribution_strategy"}

on_tensorflow = BACKEND == "tensorflow"


def test_methods_exist_with_these_arguments():
    expected = OVERRIDDEN | CALLED | (CALLED_ON_TENSORFLOW if on_tensorflow else {})
    found = {
        name: [p for p in inspect.signature(getattr(OPTIMIZER, name)).parameters][1:]
        for name in expected
        if hasattr(OPTIMIZER, name)
    }
    assert found == expected


def test_attributes_exist():
    optimizer = keras.optimizers.SGD(use_ema=True, gradient_accumulation_steps=2)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build([keras.Variable(np.zeros(2), name="kernel")])
    wanted = READ | (READ_ON_TENSORFLOW if on_tensorflow else set())
    assert {name for name in wanted if hasattr(optimizer, name)} == wanted


def test_keras_applies_by_calling_the_overridden_methods():
    sources = "".join(
        inspect.getsource(cls)
        for cls in OPTIMIZER.__mro__
        if cls.__module__.startswith("keras")
    )
    private = [name for name in OVERRIDDEN if name.startswith("_")]
    assert all(f"self.{name}(" in sources for name in private)


def test_these_are_all():
    """Whatever private name of Keras's optimizers our sources mention is above."""
    plain = keras.optimizers.SGD(use_ema=True, gradient_accumulation_steps=2)
    plain.exclude_from_weight_decay(var_names=["bias"])
    plain.build([keras.Variable(np.zeros(2), name="kernel")])
    package = Path(keras_adaptive.__file__).parent
    source = "".join(file.read_text("utf-8") for file in package.rglob("*.py"))
    mentioned = set(re.findall(r"[.\"](_[a-z]\w+)", source))
    mentioned |= set(re.findall(r"def (_[a-z]\w+)", source))
    named = {*OVERRIDDEN, *CALLED, *CALLED_ON_TENSORFLOW, *READ, *READ_ON_TENSORFLOW}
    assert {name for name in mentioned if hasattr(plain, name)} <= named


def test_ours_really_override():
    own = {}
    for cls in reversed(optimizers.AdaptiveOptimizer.__mro__):
        if cls.__module__.startswith("keras_adaptive"):
            own |= vars(cls)
    found = {n: getattr(optimizers.AdaptiveOptimizer, n, None) for n in own}
    public = {n for n in own if callable(found[n]) and hasattr(OPTIMIZER, n)}
    plain = {n for n in public if not n.startswith("__")}
    assert plain == OVERRIDDEN.keys()


def test_the_adapter_marks_its_overrides():
    """Private hooks are overridden in `base.py` and `adapter` alone, all are marked."""
    classes = (AppliesGradients, DecaysVariables, optimizers.AdaptiveOptimizer)
    own = {name: member for cls in classes for name, member in vars(cls).items()}
    private = {name for name in OVERRIDDEN if name.startswith("_")}
    assert private <= own.keys()
    functions = {n: getattr(member, "__func__", member) for n, member in own.items()}
    marked = {n for n, each in functions.items() if hasattr(each, "__override__")}
    assert marked == OVERRIDDEN.keys() & own.keys()


def test_variables_are_cast_by_a_global_attribute():
    """The private name that `in_own_dtype` unsets."""
    table = keras.Variable(np.ones(2), dtype="float64")
    read = []

    class Layer(keras.layers.Layer):
        def call(self, inputs):
            read.append(table.value.dtype)
            with in_own_dtype():
                read.append(table.value.dtype)
                read.append(table.dtype)
            read.append(table.value.dtype)
            return inputs

    Layer(dtype="mixed_float16")(np.ones(2))
    names = [keras.backend.standardize_dtype(dtype) for dtype in read[-4:]]
    assert names == ["float16", "float64", "float64", "float16"]


@pytest.mark.tensorflow
def test_names_of_tensorflow():
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util

    assert hasattr(control_flow_util, "GraphOrParentsInXlaContext")
    assert hasattr(tf.raw_ops, "ResourceScatterUpdate")
    assert hasattr(tf.raw_ops, "DisableCopyOnRead")
    assert hasattr(tf.__internal__.distribute.interim, "maybe_merge_call")
    assert hasattr(tf.distribute.ReplicaContext, "merge_call")


@pytest.mark.skipif(BACKEND != "torch", reason="PyTorch's tensors alone are read so")
def test_a_variable_keeps_its_tensor_under_a_private_name():
    """The private name that `tensor_of` reads."""
    from keras_adaptive.optimizers.engine.torch.scope import tensor_of

    variable = keras.Variable(np.ones(2))
    assert tensor_of(variable) is variable.value
    before = tensor_of(variable)
    variable.assign(np.zeros(2))
    assert tensor_of(variable) is before
