"""The base of optimizers that treat variables as matrices."""

from __future__ import annotations

import math
import re
from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.contract.naming import path_of


class MatrixOptimizer(AdaptiveOptimizer):
    """Updates matrices by its own rule and other variables by another optimizer.

    That optimizer is the `fallback`. Only its rule, its hyper-parameters and its weight
    decay are used; clipping, averaging and the other options are those of this
    optimizer. The default fallback uses this optimizer's learning rate. A fallback
    given by the user has its own learning rate, with schedules evaluated at this
    optimizer's iterations.

    Subclasses declare `exclude_layers`, `exclude_embeddings` and `fallback`, and define
    `default_fallback`. Users may override `uses_fallback`.

    Attributes:
        exclude_layers: Regular expressions. The fallback updates a variable if one of
            them matches a part of its path.
        exclude_embeddings: Whether the fallback updates embeddings.
        embedding_pattern: A regular expression. A variable is an embedding if it
            matches a part of its path; by default as `keras.layers.Embedding` names its
            table.
    """

    exclude_layers: list[str] | None
    exclude_embeddings: bool
    embedding_pattern = "embeddings$"
    compilable = False
    dense_only = "it needs whole matrices. Leave large tables to the fallback."
    _default_fallback = True

    def default_fallback(self) -> AdaptiveOptimizer:
        """Returns the fallback that is used unless another one is given.

        Its sparse mode is `self.sparse`, which is `None` for the default.
        """
        raise NotImplementedError

    def complete(self) -> None:
        """Sets the fallback and, unless one is given, the mode of sparse updates."""
        self.exclude_layers = list(self.exclude_layers or [])
        fallback: Any = self.fallback
        self._default_fallback = fallback is None
        if fallback is None:
            fallback = self.fallback = self.default_fallback()
        elif not isinstance(fallback, AdaptiveOptimizer) or fallback.global_slots:
            raise ValueError(
                f"{type(self).__name__}: `fallback` must be an optimizer of "
                "keras_adaptive that updates each variable by itself. "
                f"Received: fallback={fallback!r}"
            )
        elif self._fallback_rate(fallback) is not None:
            self._track_variable(fallback._learning_rate)
        self.sparse = self.sparse or fallback.sparse

    def refused_modes(self) -> dict[str, str]:
        # The matrices are always updated whole.
        fallback: Any = self.fallback
        if fallback.sparse == "deferred":
            return {}
        why = f"the fallback, {type(fallback).__name__}, is not deferred."
        return {"deferred": why}

    @staticmethod
    def _fallback_rate(fallback: Any) -> keras.Variable | None:
        """Returns the variable that holds the fallback's own learning rate."""
        rate = fallback._learning_rate
        return rate if isinstance(rate, keras.Variable) else None

    def uses_fallback(self, variable: Any) -> bool:
        path = path_of(variable)
        patterns = list(self.exclude_layers or [])
        if self.exclude_embeddings:
            patterns.append(self.embedding_pattern)
        return any(re.search(pattern, path) for pattern in patterns)

    def fallback_learning_rate(self, learning_rate: Any) -> Any:
        if self._default_fallback:
            return learning_rate
        fallback: Any = self.fallback
        rate = fallback._learning_rate
        if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            return rate(self._iterations)
        return rate() if callable(rate) else rate

    def _named_variables(self) -> dict[str, keras.Variable]:
        named = super()._named_variables()
        if not self._default_fallback:
            rate = self._fallback_rate(self.fallback)
            named |= {} if rate is None else {"fallback_learning_rate": rate}
        return named

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config["exclude_layers"] = list(self.exclude_layers or [])
        config["fallback"] = None
        if not self._default_fallback:
            config["fallback"] = keras.saving.serialize_keras_object(self.fallback)
        return config

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> MatrixOptimizer:
        config = dict(config)
        if isinstance(config.get("fallback"), dict):
            config["fallback"] = keras.saving.deserialize_keras_object(
                config["fallback"], custom_objects
            )
        return super().from_config(config, custom_objects)


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Returns the shape of a variable as a matrix.

    The last axis becomes the columns, and all others together the rows. A convolution
    kernel becomes (height · width · inputs, outputs), a vector becomes a single row.
    """
    return math.prod(shape[:-1]), math.prod(shape[-1:])


def gram(matrix: Any, like: Any) -> Any:
    """Returns `matrix @ matrixᵀ`, or the part of it that a statistic holds.

    Args:
        matrix: Tensor of shape `(rows, columns)`.
        like: The statistic, of shape `(rows, rows)`, or `(rows,)` for only the
            diagonal, or empty for nothing.
    """
    if like.shape[0] == 0:
        return like
    if len(like.shape) == 1:
        return ops.sum(ops.square(matrix), axis=1)
    return matrix @ ops.transpose(matrix)


def on_both_sides(matrix: Any, left: Any, right: Any) -> Any:
    """Returns `left @ matrix @ rightᵀ`.

    Args:
        matrix: Tensor of shape `(rows, columns)`.
        left: Tensor of shape `(rows, rows)`, or `(rows,)` for a diagonal matrix, or
            empty for the identity.
        right: The same with `columns` instead of `rows`.
    """
    return ops.transpose(_times(right, ops.transpose(_times(left, matrix))))


def _times(factor: Any, matrix: Any) -> Any:
    if factor.shape[0] == 0:
        return matrix
    if len(factor.shape) == 1:
        return ops.expand_dims(factor, 1) * matrix
    return factor @ matrix
