"""SAM and ASAM: sharpness-aware minimization."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.contract import (
    NON_NEGATIVE,
    PACKAGE,
    Slot,
    hyperparameter,
)
from keras_adaptive.optimizers.contract.override import override
from keras_adaptive.optimizers.engine.sparse.primitives import rows
from keras_adaptive.optimizers.engine.variables import VariableFactory
from keras_adaptive.optimizers.wrappers.gradients import by_row
from keras_adaptive.optimizers.wrappers.two_points import TwoPointWrapper
from keras_adaptive.optimizers.wrappers.weights import norm, write


class SharpnessAware(TwoPointWrapper):
    """Steps by the gradient at the worst point of a neighborhood.

    Subclasses declare `rho`, the size of the neighborhood, and define `scaled`.
    """

    rho: float
    slots = {"unperturbed": Slot()}
    swaps_last = False

    def scaled(self, values: Any, parameter: Any) -> Any:
        """Returns a gradient in the geometry of the neighborhood.

        Args:
            values: The gradient of a variable or of some of its rows.
            parameter: The variable or these rows.
        """
        raise NotImplementedError

    @override
    def _add_numbers(self, factory: VariableFactory) -> None:
        super()._add_numbers(factory)
        self._numbers["ascended"] = factory.number("ascended", "bool")

    @override
    def _advance_from_training(
        self, grads: list[Any], variables: list[Any], apply: Callable[[], None]
    ) -> None:
        self._branch(
            self._numbers["ascended"],
            lambda: self._descend(apply),
            lambda: self._ascend(grads, variables),
            changed=self._trainable_variables + self.variables,
        )

    def _ascend(self, grads: list[Any], variables: list[Any]) -> None:
        """Moves the variables to the worst point."""
        touched = list(self._touched(grads, variables))
        for variable, ids, _ in touched:
            # What is added to rows that are behind would decay as they catch up.
            self.flush_rows(variable, ids)
        for i, kept in self._kept.items():
            write(kept, self._trainable_variables[i])
        weights = [self._weights_at(variable, ids) for variable, ids, _ in touched]
        pairs = zip(touched, weights, strict=True)
        scaled = [self.scaled(gradient, w) for (_, _, gradient), w in pairs]
        distance = self.rho / norm(scaled)
        for (variable, ids, _), values, w in zip(touched, scaled, weights, strict=True):
            w = w + ops.cast(distance, w.dtype) * self.scaled(values, w)
            if ids is None:
                write(variable, w)
            else:
                rows.scatter(variable, ids, w)
        self._numbers["ascended"].assign(True)

    def _touched(
        self, grads: list[Any], variables: list[Any]
    ) -> Iterator[tuple[Any, Any, Any]]:
        """Yields variable, ids of rows or `None`, and values of each gradient."""
        for gradient, variable in zip(grads, variables, strict=True):
            i = self._get_variable_index(variable)
            if gradient is not None and i in self._kept:
                ids, values = by_row(gradient, variable)
                yield variable, ids, ops.cast(values, self._kept[i].dtype)

    def _weights_at(self, variable: Any, ids: Any | None) -> Any:
        """Returns a variable, or rows of it, in the dtype of the kept weights."""
        w = ops.copy(variable) if ids is None else rows.gather(variable, ids)
        return ops.cast(w, self._kept[self._get_variable_index(variable)].dtype)

    def _descend(self, apply: Callable[[], None]) -> None:
        """Moves the variables back, and lets the wrapped optimizer step."""
        for i, kept in self._kept.items():
            write(self._trainable_variables[i], kept)
        apply()
        self._numbers["ascended"].assign(False)

    @override
    def _swap(self) -> None:
        self._branch(self._numbers["ascended"], super()._swap)

    @override
    def _resume(self) -> None:
        self._numbers["ascended"].assign(False)

    @override
    def _restart(self) -> None:
        self._resume()

    @override
    def flush(self) -> None:
        """Brings deferred rows up to date, at the unperturbed weights."""
        away = ops.logical_and(
            self._numbers["ascended"], ops.equal(self._numbers["evaluating"], 0)
        )
        self._branch(away, super()._swap)
        super().flush()
        self._branch(away, super()._swap)


@keras.saving.register_keras_serializable(PACKAGE)
class SAM(SharpnessAware):
    """SAM: steps by the gradient at the worst point nearby.

    One step takes two calls of `apply`, which means two batches. With the gradient g at
    the weights w, the first call moves to

        w + e,  e = ρ g / |g|

    where the norm is over all variables. The second call moves back to w and lets the
    optimizer step by the gradient at w + e. The optimizer's iterations and schedules
    count steps, which are half as many as calls.

    The evaluation point is w: the model has these weights after `fit`, also after an
    odd number of batches, and after `finalize_variable_values` and `to_evaluation`. If
    training continues from there, the current step starts again. After a
    `KeyboardInterrupt` Keras calls neither: call `model.optimizer.to_evaluation()`.

    When to use: where generalization counts more than time, as for vision models on
        little data. Avoid it where time is short: a step costs two gradients, so
        compare SAM with twice the epochs. What matters: `rho` (0.05 to 0.2), then the
        learning rate of the wrapped optimizer.

    Under `tf.distribute` with several replicas, e follows from their summed gradient.

    Sparse gradients are summed by row, and only their rows move to w + e. The way back
    copies the whole table, so a step costs two passes over it. The optimizer gets the
    gradients as they are.

    Raises:
        TypeError: `optimizer` is no optimizer, or an argument belongs to it.
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

    rho: float = hyperparameter(
        NON_NEGATIVE, "ρ, the distance to the point.", default=0.05
    )

    @override
    def scaled(self, values: Any, parameter: Any) -> Any:
        """Returns the gradient as it is."""
        return values


@keras.saving.register_keras_serializable(PACKAGE)
class ASAM(SharpnessAware):
    """ASAM: SAM in a neighborhood that scales with the weights.

    It is `SAM` with

        e = ρ w² g / | |w| g |

    This neighborhood stays the same if the weights of a network are rescaled without
    changing its function. All variables are treated alike, also biases, and nothing is
    added to |w|.

    When to use: for the tasks of `SAM`, where layers differ much in scale. Avoid it
        where `SAM` is to be avoided. What matters: `rho`, which is about ten times as
        large as that of `SAM` (0.5 to 2).

    Sparse gradients: as in `SAM`.

    Raises:
        TypeError: As for `SAM`.
        ValueError: As for `SAM`.

    Example:

    >>> import keras, keras_adaptive
    >>> from keras_adaptive.optimizers import ASAM, Adam
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(ASAM(Adam(0.01), rho=1.0), "mse")

    References:

    - [Kwon et al., 2021](https://arxiv.org/abs/2102.11600)
    """

    rho: float = hyperparameter(
        NON_NEGATIVE,
        "ρ, the distance to the point, relative to the weights.",
        default=0.5,
    )

    @override
    def scaled(self, values: Any, parameter: Any) -> Any:
        """Returns a gradient scaled by the size of the weights."""
        return ops.abs(parameter) * values
