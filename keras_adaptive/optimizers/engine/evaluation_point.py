"""Two points of a training: where gradients are taken, and where to evaluate.

A moving average or a schedule-free optimizer is to be evaluated at another point than
the one that it trains at. The variables hold the training point while training goes
on; here they are moved to the evaluation point and back. What it takes to come back
is in the state of the optimizer, and so is which of the two they are at, so that a
model that is saved at its evaluation point goes on training from the other.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import keras
from keras import ops


class EvaluationPoint:
    """Moves the variables of an optimizer to where to evaluate, and back.

    Args:
        optimizer: The `AdaptiveOptimizer` that it belongs to.

    Attributes:
        reached: Bool variable, whether the variables are at the evaluation point;
            `None` if that is where they are trained, too.
        visited: Whether somebody, such as `EvaluateAveraged`, looks after the two
            points.
    """

    def __init__(self, optimizer):
        self.optimizer = optimizer
        self.reached: keras.Variable | None = None
        self.visited = False

    def warn_unless_visited(self) -> None:
        """Says once what the end of `fit` cannot make up for."""
        if self.reached is None or self.visited:
            return
        self.visited = True
        warnings.warn(
            "The weights are now at the point at which to evaluate "
            f"{type(self.optimizer).__name__}. If this `fit` validated or saved "
            "checkpoints, it did so at the training point. Add "
            "`keras_adaptive.callbacks.EvaluateAveraged()` to its callbacks.",
            stacklevel=4,
        )

    def build(self) -> None:
        """Makes the variable `reached` if there is a point to reach."""
        optimizer = self.optimizer
        indices = range(len(optimizer._trainable_variables))
        if any(self._is_another(i) for i in indices):
            self.reached = optimizer.add_variable(
                shape=(),
                initializer="zeros",
                dtype="bool",
                aggregation="only_first_replica",
                name="evaluating",
            )

    def enter(self) -> None:
        """Moves the variables to the evaluation point, unless they are there."""
        self._move("evaluation_point", True)

    def leave(self) -> None:
        """Moves the variables back to the training point, unless they are there."""
        self._move("training_point", False)

    def _is_another(self, i: int) -> bool:
        part = self.optimizer._part(i)
        return self.optimizer._average(i) is not None or bool(part.evaluation_point)

    def _move(self, method: str, arrived: bool) -> None:
        if self.reached is None:
            return
        predicate = ops.not_equal(self.reached, arrived)

        def move(wrap=lambda point: point):
            for i, variable in enumerate(self.optimizer._trainable_variables):
                if self._is_another(i):
                    point = wrap(partial(self._point, i, method))
                    self._move_variable(i, variable, point)
                else:
                    self.optimizer.flush([variable])

        if keras.backend.backend() == "jax":
            # It is fused with the update; a conditional would be compiled anew at
            # every call outside of `jit`.
            move(lambda point: partial(_where, predicate, point))
        else:
            ops.cond(predicate, move, lambda: None)
        self.reached.assign(arrived)

    def _point(self, i: int, method: str, parameter, state, average, hyper):
        if average is not None:
            return average, state, parameter
        point = getattr(self.optimizer._part(i), method)
        return *point(parameter, state, hyper), None

    def _move_variable(self, i: int, variable, point: Callable) -> None:
        optimizer = self.optimizer
        if optimizer._sparse is not None and optimizer._sparse.is_table(i):
            optimizer._sparse.flush(i, variable, optimizer._iterations, point)
            return
        dtype = optimizer._compute_dtype(i)
        hyper = optimizer._hyper(optimizer.learning_rate, dtype, i)
        parameter, state = optimizer._tensors(variable, optimizer._slots(i), dtype)
        average = optimizer._average(i)
        old = None if average is None else ops.convert_to_tensor(average)
        new_parameter, new_state, new = point(parameter, state, old, hyper)
        values = [(variable, parameter, new_parameter), (average, old, new)]
        for name, slot in optimizer._slots(i).items():
            values.append((slot, state[name], new_state[name]))
        # Copies: on some backends a tensor that was read changes with its variable.
        changed = [(v, ops.copy(new)) for v, old, new in values if new is not old]
        for variable, value in changed:
            optimizer.assign(variable, ops.cast(value, variable.dtype))


def _where(predicate, point: Callable, parameter, state, average, hyper):
    """What `point` returns where the predicate holds, else what it was given."""
    before = (parameter, state, average)
    return keras.tree.map_structure(
        lambda new, old: old if new is old else ops.where(predicate, new, old),
        point(*before, hyper),
        before,
    )
