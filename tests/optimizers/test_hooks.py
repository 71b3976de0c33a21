"""Private hooks of Keras that `base.py` builds on: one that goes is noticed."""

import keras
import pytest

HOOKS = [
    "_all_reduce_sum_gradients",
    "_backend_apply_gradients",
    "_backend_update_step",
    "_check_variables_are_known",
    "_clip_gradients",
    "_get_variable_index",
    "_overwrite_variable_with_gradient",
    "_update_model_variables_moving_average",
    "_use_weight_decay",
    "add_variable_from_reference",
    "finalize_variable_values",
    "load_own_variables",
    "save_own_variables",
]
TENSORFLOW_ONLY = ["_all_reduce_sum_gradients"]


@pytest.mark.parametrize("hook", HOOKS)
def test_keras_has_the_hook(hook):
    if hook in TENSORFLOW_ONLY and keras.backend.backend() != "tensorflow":
        pytest.skip("a hook of the TensorFlow backend")
    assert callable(getattr(keras.optimizers.Optimizer, hook, None))


def test_keras_has_the_attributes():
    optimizer = keras.optimizers.SGD(use_ema=True, gradient_accumulation_steps=2)
    optimizer.build([keras.Variable([1.0])])
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    for name in (
        "_accumulated_gradients",
        "_exclude_from_weight_decay_pattern",
        "_iterations",
        "_learning_rate",
        "_model_variables_moving_average",
        "_trainable_variables",
    ):
        assert hasattr(optimizer, name), name
