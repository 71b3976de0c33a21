"""SAM and ASAM: sharpness-aware minimization."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.contract import (
    NON_NEGATIVE,
    PACKAGE,
    Slot,
    hyperparameter,
)
from keras_adaptive.optimizers.engine.variables import VariableFactory
from keras_adaptive.optimizers.wrappers.base import TwoPointWrapper, norm, write

if keras.backend.backend() == "tensorflow":
    from keras_adaptive.optimizers.engine.tensorflow import rows


class SharpnessAware(TwoPointWrapper):
    """Steps by the gradient at the worst point of a neighbourhood."""

    slots = {"unperturbed": Slot()}
    swaps_last = False

    def scaled(self, values: Any, parameter: Any) -> Any:
        """Returns a gradient in the geometry of the neighbourhood."""
        raise NotImplementedError

    def _add_numbers(self, factory: VariableFactory) -> None:
        super()._add_numbers(factory)
        self._numbers["ascended"] = factory.number("ascended", "bool")

    def _advance_from_training(self, grads, variables, apply) -> None:
        self._branch(
            self._numbers["ascended"],
            lambda: self._descend(apply),
            lambda: self._ascend(grads, variables),
            changed=self._trainable_variables + self.variables,
        )

    def _ascend(self, grads, variables) -> None:
        for i, kept in self._kept.items():
            write(kept, self._trainable_variables[i])
        touched = list(self._touched(grads, variables))
        scaled = [self.scaled(gradient, w) for _, _, gradient, w in touched]
        distance = self.rho / norm(scaled)
        for (variable, ids, _, w), values in zip(touched, scaled, strict=True):
            w = w + ops.cast(distance, w.dtype) * self.scaled(values, w)
            if ids is None:
                write(variable, w)
            else:
                rows.scatter(variable, ids, w)
        self._numbers["ascended"].assign(True)

    def _touched(self, grads, variables):
        """For each gradient: variable, ids of its rows or `None`, values, weights."""
        for gradient, variable in zip(grads, variables, strict=True):
            i = self._get_variable_index(variable)
            if gradient is None or i not in self._kept:
                continue
            ids, values = self._by_row(gradient, variable)
            w = ops.copy(variable) if ids is None else rows.gather(variable, ids)
            dtype = self._kept[i].dtype
            yield variable, ids, ops.cast(values, dtype), ops.cast(w, dtype)

    def _descend(self, apply) -> None:
        for i, kept in self._kept.items():
            write(self._trainable_variables[i], kept)
        apply()
        self._numbers["ascended"].assign(False)

    def _swap(self) -> None:
        self._branch(self._numbers["ascended"], super()._swap)

    def _resume(self) -> None:
        self._numbers["ascended"].assign(False)

    def flush(self) -> None:
        """Brings deferred rows up to date, at the unperturbed weights."""
        away = ops.logical_and(
            self._numbers["ascended"], ops.logical_not(self._numbers["evaluating"])
        )
        self._branch(away, super()._swap)
        super().flush()
        self._branch(away, super()._swap)


@keras.saving.register_keras_serializable(PACKAGE)
class SAM(SharpnessAware):
    """SAM: steps by the gradient at the worst point nearby.

    One step takes two calls of `apply`, that is two batches. With the gradient g at the
    weights w, the first of them moves to

        w + e,  e = ρ g / |g|

    (the norm is over all variables). The second moves back to w and lets the optimizer
    step by the gradient at w + e. The optimizer's iterations and schedules count
    steps, half as many as calls.

    The weights to evaluate are w: `fit` ends with them in the model, also after an odd
    number of batches, and so do `finalize_variable_values` and `to_evaluation`. If
    training goes on from there the step is begun anew.

    When to use: where generalization counts more than time, as for vision models on
        little data: a step costs two gradients, so compare it with twice the epochs.
        What matters: `rho` (0.05 to 0.2), then the rate of the optimizer in it.

    Under `tf.distribute` with several replicas e is that of their summed gradient.

    Sparse gradients are summed by row; only their rows are moved. The way back copies
    the whole table: a step costs two passes over it. To the optimizer they go as they
    are.

    Raises:
        TypeError: `optimizer` is none, or an argument belongs to it.
        ValueError: `rho` is negative, or `optimizer` is a `LossScaleOptimizer` (which
            goes outside).

    Example:

    >>> import keras, keras_adaptive
    >>> from keras_adaptive.optimizers import SAM
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(SAM(keras.optimizers.SGD(0.1, momentum=0.9)), "mse")

    References:

    - [Foret et al., 2020](https://arxiv.org/abs/2010.01412)
    """

    rho: float = hyperparameter(0.05, NON_NEGATIVE, "ρ, the distance.")

    def scaled(self, values: Any, parameter: Any) -> Any:
        """Returns a gradient in the geometry of the neighbourhood: here as it is."""
        return values


@keras.saving.register_keras_serializable(PACKAGE)
class ASAM(SharpnessAware):
    """ASAM: SAM in a neighbourhood that scales with the weights.

    As `SAM`, with

        e = ρ w² g / | |w| g |

    which does not change when weights of a network are rescaled without changing its
    function. All variables are treated alike, biases too, and nothing is added to |w|.

    When to use: as `SAM`, where layers differ much in scale. Its `rho` is about ten
        times as large (0.5 to 2).

    Sparse gradients: as `SAM`.

    Raises:
        TypeError: As `SAM`.
        ValueError: As `SAM`.

    Example:

    >>> import keras, keras_adaptive
    >>> from keras_adaptive.optimizers import ASAM, Adam
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(ASAM(Adam(0.01), rho=1.0), "mse")

    References:

    - [Kwon et al., 2021](https://arxiv.org/abs/2102.11600)
    """

    rho: float = hyperparameter(
        0.5, NON_NEGATIVE, "ρ, the distance relative to the weights."
    )

    def scaled(self, values: Any, parameter: Any) -> Any:
        """Returns a gradient scaled by the size of the weights."""
        return ops.abs(parameter) * values
