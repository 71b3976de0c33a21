"""The algorithm of an optimizer: what its author writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, cast

import numpy as np
from keras import ops

from keras_adaptive.optimizers.contract.hyper import Hyper
from keras_adaptive.optimizers.contract.options import Options, sparse_mode
from keras_adaptive.optimizers.contract.slot import Slot

PACKAGE = "keras_adaptive"
"""The package name under which Keras registers the optimizers for saving."""

State = dict[str, Any]
"""The slots of a variable by name, as tensors."""


def standing_still(
    self: Any, state: State, skipped_steps: Any, hyper: Hyper
) -> tuple[None, State]:
    """A `catch_up` for rules in which nothing moves while the gradient is zero."""
    return None, state


class Algorithm(Options):
    """An update rule with its hyper-parameters and slots, free of side effects.

    This is the contract between an optimizer and the engine that runs it. A subclass
    of `AdaptiveOptimizer` defines:

    - its hyper-parameters, each declared once by `hyperparameter(constraint, doc,
      default=...)`. The constructor, its checks and `get_config` follow from them;
    - `slots`: a mapping from names to `Slot`s, a class attribute or a property;
    - `rule(gradient, state, hyper)`, which returns the step and the new state.

    It may also define:

    - `catch_up(state, skipped_steps, hyper)`, the closed form of steps with zero
      gradient, and `drift(hyper)`, the size of such a step. They make
      `sparse="deferred"` possible. `catch_up = standing_still` says that nothing moves
      while the gradient is zero;
    - `floor_growth(hyper)`, if `catch_up` returns a `Quotient` such as m / (√v + ε):
      how ε grows relative to √v while the gradient is zero;
    - `changes_direction(hyper)`: after which steps such rows move along another
      direction, as `RAdam` does once;
    - `why_not_deferred()`: the reason why some hyper-parameters have no closed form;
    - `decayed(parameter, hyper)`: how weight decay changes the parameter before a step.
      A rule with the decay inside (`hyper.weight_decay`) returns the parameter itself;
    - `dense_only`: why the rule needs whole variables, and what to use for large
      tables instead. `sparse` is then always `"dense"`;
    - `compilable = False`: XLA does not compile the rule by itself. Matrix
      decompositions are faster as TensorFlow's own kernels;
    - `global_slots`, `local_stats` and `reduce_stats`, for numbers that are summed over
      all variables. The rule reads them as `hyper.global_state`;
    - `evaluation_point` and `training_point`, for a rule that is evaluated at another
      point than the one it trains at;
    - `fallback` and `uses_fallback(variable)`: another algorithm, and the variables
      that it updates.
    """

    # Without annotations, which would make hyper-parameters of them for type checkers.
    row_wise = False
    compilable = True
    fallback = cast("Algorithm | None", None)
    catch_up: ClassVar[Callable[..., Any] | None] = None
    evaluation_point: ClassVar[Callable[..., Any] | None] = None
    training_point: ClassVar[Callable[..., Any] | None] = None
    dense_only: ClassVar[str | None] = None

    @property
    def slots(self) -> Mapping[str, Slot]:
        """The state of each variable, by name; a class attribute or a property."""
        return {}

    @property
    def global_slots(self) -> Mapping[str, Slot]:
        """The numbers kept for all variables together, by name."""
        return {}

    def complete(self) -> None:
        """Completes the hyper-parameters once the constructor has set them all.

        A default that depends on other hyper-parameters is set here. `self.sparse` is
        still the argument as it was given.
        """

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        """Computes one step of the algorithm, without side effects.

        Args:
            gradient: Tensor, the gradient of a variable or of some of its rows.
            state: The slots by name, of the gradient's shape (or one value a row).
            hyper: The hyper-parameters, the learning rate and the step number.

        Returns:
            `(step, state)`. The step is subtracted from the parameter; the state has
            all slots.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define `rule(gradient, state, hyper)`."
        )

    def drift(self, hyper: Hyper) -> tuple[Any, Any] | None:
        """Returns how fast a row moves while its gradient is zero.

        `catch_up` returns a direction and the state after `skipped_steps` steps, a
        float tensor that broadcasts against the state. At the j-th skipped step the
        parameter moves by `-direction * rate * ratio**j`, with the rate of that step.
        If the direction is a `Quotient`, that is without the growth of its floor.

        Returns:
            `(rate, ratio)`, or `None` if such a row stands still.
        """
        return None

    def floor_growth(self, hyper: Hyper) -> tuple[Any, Any] | None:
        """Returns how the floor of a direction grows, relative to its root.

        If `catch_up` returns `Quotient(numerator, root, floor)`, the parameter moves at
        the j-th skipped step by

            -numerator * rate * ratio**j / (root + floor * size * growth**j)

        with `(rate, ratio)` from `drift`, and the rate and the size of that step.

        Returns:
            `(size, growth)`, both above 0, or `None` if the floor is one part of the
            denominator as any other.
        """
        return None

    def changes_direction(self, hyper: Hyper) -> Any:
        """Returns whether rows with zero gradient change direction after a step.

        Deferred rows are brought up to date after such a step, all of them. `catch_up`
        and `drift` then never mix the directions before it and after it.

        Returns:
            Bool scalar, or `None` if the direction stays what `catch_up` returns.
        """
        return None

    def why_not_deferred(self) -> str | None:
        """Returns why there is no closed form for skipped steps, or `None`."""
        if self.catch_up is None:
            return (
                "it has no closed form for the steps that a row skips (no `catch_up` "
                "method)."
            )
        if type(self).decayed is not Algorithm.decayed and self.weight_decay:
            return "with weight decay inside the rule it has no closed form."
        return None

    def refused_modes(self) -> dict[str, str]:
        """Returns the sparse modes that are not supported, and why."""
        if self.dense_only:
            return dict.fromkeys(("deferred", "lazy"), self.dense_only)
        why = self.why_not_deferred()
        alternative = "Use sparse='lazy' (such rows stand still) or sparse='dense'."
        return {"deferred": f"{why} {alternative}"} if why else {}

    def checked_sparse_mode(self) -> str:
        """Returns the mode of sparse updates that `sparse` asks for.

        Raises:
            ValueError: The hyper-parameters do not support it.
        """
        return sparse_mode(type(self).__name__, self.sparse, self.refused_modes())

    def decayed(self, parameter: Any, hyper: Hyper) -> Any:
        """Returns the parameter after weight decay, before a step."""
        return parameter - parameter * hyper.weight_decay * hyper.learning_rate

    def local_stats(self, gradient: Any, state: State, hyper: Hyper) -> State:
        """Returns numbers of one variable by name, to be summed over all variables."""
        return {}

    def reduce_stats(self, sums: State, old: State, hyper: Hyper) -> State:
        """Returns the new values of `global_slots`.

        Args:
            sums: The sums of `local_stats` over all variables, by name.
            old: The values of `global_slots` so far.
            hyper: The hyper-parameters.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has `global_slots` and must define "
            "`reduce_stats(sums, old, hyper)`."
        )

    def uses_fallback(self, variable: Any) -> bool:
        """Returns whether the rule of `fallback` updates a variable.

        Args:
            variable: A variable of the model.
        """
        return False

    def fallback_learning_rate(self, learning_rate: Any) -> Any:
        """Returns the learning rate of the variables that the fallback updates.

        Args:
            learning_rate: The optimizer's learning rate.
        """
        return learning_rate

    def stands_still(self) -> bool:
        """Returns whether nothing changes in a row while its gradient is zero."""
        return type(self).catch_up is standing_still

    def squared(self, values: Any) -> Any:
        """Returns the squares of values; with `row_wise=True` their mean per row."""
        squares = ops.square(values)
        axes = tuple(range(1, len(squares.shape)))
        if not self.row_wise or not axes:
            return squares
        width = int(np.prod(squares.shape[1:]))
        return ops.sum(squares, axis=axes, keepdims=True) / ops.convert_to_tensor(
            width, squares.dtype
        )
