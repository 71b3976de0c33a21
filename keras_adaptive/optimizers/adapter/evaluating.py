"""The public methods that bring an optimizer's variables to where to evaluate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from keras_adaptive.optimizers.engine.engine import Engine
from keras_adaptive.optimizers.engine.marks import mark_again
from keras_adaptive.optimizers.engine.step import StepContext, VariableState


class EvaluatesElsewhere:
    """Moves variables between the training point and the point at which to evaluate.

    A class that takes part has an engine, and says what a step depends on.
    """

    _engine: Engine
    use_ema: bool

    def _context(self, learning_rate: Any = None) -> StepContext:
        raise NotImplementedError

    def _state_of(self, variable: Any) -> VariableState:
        raise NotImplementedError

    def flush(self, variables: Iterable[Any] | None = None) -> None:
        """Brings the rows of deferred updates up to date, wherever there are any.

        Training goes on afterwards as if nothing had happened.

        Args:
            variables: The variables to bring up to date; by default all.
        """
        states = self._engine.states
        if variables is not None:
            states = [self._state_of(variable) for variable in variables]
        self._engine.flush(states, self._context())

    def flush_rows(self, variable: Any, ids: Any | None) -> None:
        """Brings some rows of a variable up to date, if it has rows that are behind.

        Args:
            variable: A variable. Nothing happens to one of another optimizer.
            ids: int64 tensor of shape `(n,)` without repetitions, or `None` for all.
        """
        for state in self._engine.states:
            if state.variable is not variable or not self._engine.has_clock(state):
                continue
            if ids is None:
                self._engine.rows.flush_if_behind(state, self._context())
            else:
                self._engine.rows.flush_rows(ids, state, self._context())

    @property
    def evaluating(self) -> bool:
        """Whether the variables are at an evaluation point apart from training's."""
        return self._engine.point.is_reached

    def to_evaluation(self) -> None:
        """Moves the variables to the point at which to evaluate; see `evaluating`.

        That is the moving average with `use_ema`, the average x of a schedule-free
        optimizer, and for any other the training point with all rows up to date.
        There it does nothing. `to_training` or the next `apply` moves them back. Call
        it if `fit` was left by an error or a `KeyboardInterrupt`, since Keras then does
        not call `finalize_variable_values`.
        """
        self._engine.to_evaluation(self._context())

    def to_training(self) -> None:
        """Moves the variables back to the point at which to train, if they are not.

        `apply` does it too, but then the gradient was taken at the evaluation point.
        """
        self._engine.point.visited = True
        self._engine.to_training(self._context())

    def mark_again(self, same: Any) -> None:
        """Takes weights that a wrapper has rounded for its own; see `marks`.

        Args:
            same: Bool scalar, whether to do so.
        """
        if self._engine.point.reached is not None:
            variables = [state.variable for state in self._engine.states]
            mark_again(self._engine.point.reached, variables, same)

    def finalize_variable_values(self, var_list: Sequence[Any]) -> None:
        """Moves the variables to the evaluation point; Keras does at the end of `fit`.

        With `use_ema` the weights are overwritten by their averages, as in Keras, and
        training would go on from there.

        Args:
            var_list: The variables of the model.
        """
        if not self.use_ema:
            self._engine.point.warn_unless_visited(type(self).__name__)
            self.to_evaluation()
            return
        self.to_training()
        states = [self._state_of(variable) for variable in var_list]
        context = self._context()
        self._engine.flush(states, context)
        self._engine.overwrite_by_averages(states, context)
        self._engine.point.mark(self._engine.states, sign=-1)
