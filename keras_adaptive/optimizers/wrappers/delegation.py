"""The attributes and calls that a wrapper passes on to the wrapped optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras

from keras_adaptive.optimizers.contract.options import check_settable
from keras_adaptive.optimizers.contract.override import override
from keras_adaptive.optimizers.engine.conditional import nothing


class DelegatingOptimizer(keras.optimizers.Optimizer):
    """Passes on what concerns the learning rate, the loss and the evaluation point.

    Attributes:
        optimizer: The optimizer that gets it.
    """

    optimizer: Any

    def _wraps(self) -> bool:
        """Returns whether there is an optimizer; not while Keras's constructor runs."""
        return "optimizer" in vars(self)

    def _current_learning_rate(self) -> Any:
        return self.optimizer.learning_rate

    @property
    @override
    def learning_rate(self) -> Any:
        """The learning rate of the wrapped optimizer."""
        return self.optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        check_settable(self.optimizer, learning_rate)
        self.optimizer.learning_rate = learning_rate

    @property
    @override
    def iterations(self) -> Any:
        """The number of updates of the wrapped optimizer."""
        return self.optimizer.iterations

    @property
    @override
    def loss_scale_factor(self) -> float | None:
        """The loss scale of the wrapped optimizer."""
        return self.optimizer.loss_scale_factor

    @loss_scale_factor.setter
    def loss_scale_factor(self, factor: float | None) -> None:
        if self._wraps():
            self.optimizer.loss_scale_factor = factor

    @override
    def scale_loss(self, loss: Any) -> Any:
        """Scales a loss as the wrapped optimizer does."""
        return self.optimizer.scale_loss(loss)

    @override
    def exclude_from_weight_decay(
        self,
        var_list: Iterable[Any] | None = None,
        var_names: Iterable[str] | None = None,
    ) -> None:
        """Excludes variables from the weight decay of the wrapped optimizer.

        Args:
            var_list: The variables.
            var_names: Parts of the names of more variables.
        """
        self.optimizer.exclude_from_weight_decay(var_list, var_names)

    @property
    def evaluating(self) -> bool:
        """Whether the variables are at an evaluation point apart from training's."""
        return any(getattr(part, "evaluating", False) for part in self._parts())

    def flush(self) -> None:
        """Brings deferred rows up to date, if the wrapped optimizer has any."""
        self._call("flush")

    def flush_rows(self, variable: Any, ids: Any | None) -> None:
        """Brings some rows of a variable up to date, if they are behind.

        Args:
            variable: The variable.
            ids: int64 tensor of shape `(n,)` without repetitions, or `None` for all.
        """
        for part in self._parts():
            if hasattr(part, "flush_rows"):
                part.flush_rows(variable, ids)

    def to_evaluation(self) -> None:
        """Moves the variables to the evaluation point; see `evaluating`.

        `to_training` or the next `apply` moves them back.
        """
        self._call("to_evaluation")

    def to_training(self) -> None:
        """Moves the variables back to the training point, if they are not there.

        `apply` does it too, but then the gradient was taken at the evaluation point.
        """
        self._call("to_training")

    @override
    def finalize_variable_values(self, var_list: Sequence[Any]) -> None:
        """Moves the variables to the evaluation point; Keras does at the end of `fit`.

        Args:
            var_list: The variables of the model.
        """
        self.optimizer.finalize_variable_values(var_list)

    def mark_again(self, same: Any) -> None:
        """Takes weights that a wrapper has rounded for its own; see `marks`."""
        self._mark_parts_again(same)

    def _mark_parts_again(self, same: Any) -> None:
        for part in self._parts():
            if hasattr(part, "mark_again"):
                part.mark_again(same)

    def _call(self, method: str) -> None:
        for part in self._parts():
            getattr(part, method, nothing)()

    def _parts(self) -> list[Any]:
        """Returns the wrapped optimizer, or those in a `MultiOptimizer`."""
        return getattr(self.optimizer, "optimizers", [self.optimizer])
