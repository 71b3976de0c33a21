"""Wrappers that are evaluated at another point than the training point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

from keras import ops

from keras_adaptive.optimizers.contract.override import override
from keras_adaptive.optimizers.engine.marks import are_replaced, checksum, mark_again
from keras_adaptive.optimizers.engine.variables import VariableFactory
from keras_adaptive.optimizers.wrappers.base import Wrapper
from keras_adaptive.optimizers.wrappers.weights import write


class TwoPointWrapper(Wrapper):
    """A wrapper whose evaluation point is not the point of its gradients.

    The only slot holds the weights of the other point. While `evaluating`, the
    variables and that slot have changed places.

    Subclasses define:

    - `_advance_from_training`, in place of `_advance`;
    - `_resume`, called if `apply` finds the variables at the evaluation point;
    - `_restart`, called if somebody has set the weights there: the point that belonged
      to the former weights is forgotten;
    - optionally `_swap`, which exchanges the variables and the slot.
    """

    swaps_last: ClassVar[bool]
    """Whether the wrapped optimizer goes to its own evaluation point first."""

    def _advance_from_training(
        self, grads: list[Any], variables: list[Any], apply: Callable[[], None]
    ) -> None:
        raise NotImplementedError

    def _resume(self) -> None:
        raise NotImplementedError

    def _restart(self) -> None:
        raise NotImplementedError

    def _swap(self) -> None:
        for i, kept in self._kept.items():
            variable = self._trainable_variables[i]
            old = ops.copy(variable)
            write(variable, kept)
            write(kept, old)

    @override
    def _add_numbers(self, factory: VariableFactory) -> None:
        self._numbers["evaluating"] = factory.number("evaluating", "int32")

    @override
    def _advance(
        self, grads: list[Any], variables: list[Any], apply: Callable[[], None]
    ) -> None:
        mark = self._numbers["evaluating"]

        def come_back() -> None:
            replaced = are_replaced(mark, self._trainable_variables)
            self._branch(replaced, self._restart, self._resume)

        self._branch(ops.not_equal(mark, 0), come_back)
        mark.assign(0)
        self._advance_from_training(grads, variables, apply)

    @property
    @override
    def evaluating(self) -> bool:
        """Whether the variables are at the evaluation point."""
        return self.built and bool(ops.convert_to_numpy(self._numbers["evaluating"]))

    @override
    def to_evaluation(self) -> None:
        """Moves the variables to the evaluation point; see `evaluating`."""
        self._move(super().to_evaluation, arrived=True)

    @override
    def to_training(self) -> None:
        """Moves the variables back to the training point, if they are not there."""
        self._move(super().to_training, arrived=False)

    @override
    def mark_again(self, same: Any) -> None:
        """Takes weights that a wrapper has rounded for its own; see `marks`."""
        # The wrapped optimizer knows its own weights, which the slot holds.
        mark_again(self._numbers["evaluating"], self._trainable_variables, same)

    @override
    def finalize_variable_values(self, var_list: Sequence[Any]) -> None:
        """Moves the variables to the evaluation point at the end of `fit`."""
        finalize = partial(super().finalize_variable_values, var_list)
        self._move(finalize, arrived=True)

    def _move(self, move_optimizer: Callable[[], None], arrived: bool) -> None:
        if not self.built:
            return
        mark = self._numbers["evaluating"]
        replaced = are_replaced(mark, self._trainable_variables)
        swap = self._swap
        if not arrived:

            def swap() -> None:
                self._branch(replaced, self._restart, self._swap)

        steps = [swap, move_optimizer]
        if self.swaps_last == arrived:
            steps.reverse()

        def move() -> None:
            for step in steps:
                step()
            if arrived:
                mark.assign(checksum(self._trainable_variables))

        self._branch(
            ops.equal(mark, 0) if arrived else ops.not_equal(mark, 0),
            move,
            changed=self._trainable_variables + self.variables,
        )
        if not arrived:
            mark.assign(0)
