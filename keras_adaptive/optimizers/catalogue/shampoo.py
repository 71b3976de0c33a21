"""Shampoo."""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.catalogue.adagrad import Adagrad
from keras_adaptive.optimizers.catalogue.shared.matrix_optimizer import (
    MatrixOptimizer,
    gram,
    matrix_shape,
    on_both_sides,
)
from keras_adaptive.optimizers.contract import (
    PACKAGE,
    POSITIVE,
    Hyper,
    Interval,
    LearningRate,
    Slot,
    State,
    choice,
    hyperparameter,
)


@keras.saving.register_keras_serializable(PACKAGE)
class Shampoo(MatrixOptimizer):
    """Shampoo: AdaGrad for matrices, with one preconditioner for each side.

    With the gradient G of a matrix, its statistics L and R, and the learning rate η:

        L ← L + G Gᵀ
        R ← R + Gᵀ G
        W ← W - η (ε I + L)^(-1/4) G (ε I + R)^(-1/4)

    A vector takes the step w ← w - η (ε I + Σ g gᵀ)^(-1/2) g of full-matrix AdaGrad.
    The roots are computed from eigenvalues; negative ones, which are rounding errors,
    count as 0. The algorithm is the paper's, without averages, momentum and grafting.
    As in AdaGrad, the rate of every direction goes to zero.

    As in the paper, sides longer than `max_precond_dim` keep only the diagonal.
    Variables of more than two axes become matrices: the last axis becomes the columns,
    and all others the rows. AdaGrad, which is Shampoo with diagonals only, or the
    `fallback` updates embeddings and the variables that `exclude_layers` names.

    When to use: for studying the algorithm, and for small problems with badly
        conditioned gradients. `SOAP` is its practical descendant. Avoid it where memory
        is short, because an n × m matrix has n² + m² numbers of state, and for long
        training. Every `precondition_frequency` steps it solves an eigenvalue problem
        for each side. What matters: `learning_rate` and `epsilon`, which needs tuning
        here.

    Sparse gradients of embeddings belong to AdaGrad, which changes nothing while the
    gradient is zero, or to the fallback. Those of other variables are made dense,
    because the statistics mix all rows.

    Raises:
        ValueError: As for `Muon`.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.Shampoo(0.1), "mse")

    References:

    - [Gupta et al., 2018](https://arxiv.org/abs/1802.09568)
    """

    learning_rate: LearningRate = hyperparameter(
        doc="""A float, a schedule, or a callable without arguments that returns it.
        Shampoo often needs 0.01 to 1.""",
        default=0.001,
    )
    epsilon: float = hyperparameter(
        POSITIVE, "ε, added to the statistics.", default=1e-4
    )
    precondition_frequency: int = hyperparameter(
        Interval(1, whole=True),
        """The number of steps from one computation of the roots to the next. Above 1
        the roots are kept, which takes n² + m² more numbers.""",
        default=1,
    )
    max_precond_dim: int = hyperparameter(
        Interval(0, whole=True),
        "The length of the longest side with a full matrix.",
        default=1024,
    )
    exclude_layers: list[str] | None = hyperparameter(
        doc="""Regular expressions. AdaGrad updates a variable if one of them matches a
        part of its path.""",
        default=None,
    )
    exclude_embeddings: bool = hyperparameter(
        doc="""Leaves embeddings to AdaGrad: variables with a name that ends in
        "embeddings", as in `keras.layers.Embedding`.""",
        default=True,
    )
    fallback: AdaptiveOptimizer | None = hyperparameter(
        doc="""An `AdaptiveOptimizer` that replaces AdaGrad. It keeps its own learning
        rate and weight decay, and its other base options have no effect.""",
        default=None,
    )

    def default_fallback(self) -> AdaptiveOptimizer:
        return Adagrad(
            initial_accumulator_value=0.0,
            epsilon=self.epsilon,
            weight_decay=self.weight_decay,
            sparse=self.sparse,
        )

    @property
    def slots(self) -> dict[str, Slot]:
        left = Slot(shape_of=partial(self._side, 0))
        right = Slot(shape_of=partial(self._side, 1))
        slots = {"left": left, "right": right}
        if self.precondition_frequency > 1:
            slots |= {"left_root": left, "right_root": right}
        return slots

    def _side(self, side: int, shape: tuple[int, ...]) -> tuple[int, ...]:
        if side == 0 and len(shape) < 2:
            return (0,)
        length = matrix_shape(shape)[side]
        return (length, length) if length <= self.max_precond_dim else (length,)

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        shape = hyper.parameter.shape
        matrix = ops.reshape(gradient, matrix_shape(shape))
        left = state["left"] + gram(matrix, state["left"])
        right = state["right"] + gram(ops.transpose(matrix), state["right"])
        new = {"left": left, "right": right}
        power = hyper.number(-1 / (2 * max(1, min(2, len(shape)))))

        def roots() -> tuple[Any, ...]:
            return tuple(powered(s, hyper.epsilon, power) for s in (left, right))

        if self.precondition_frequency == 1:
            left_root, right_root = roots()
        else:
            place = ops.mod(hyper.step - 1, hyper.precondition_frequency)
            left_root, right_root = choice(
                ops.equal(place, ops.zeros_like(place)),
                roots,
                lambda: (state["left_root"], state["right_root"]),
            )
            new |= {"left_root": left_root, "right_root": right_root}
        step = on_both_sides(matrix, left_root, right_root)
        return hyper.learning_rate * ops.reshape(step, shape), new


def powered(statistic: Any, epsilon: Any, power: Any) -> Any:
    """Returns (ε I + statistic) to a power.

    Args:
        statistic: A symmetric matrix, or a vector as the diagonal of one.
        epsilon: ε.
        power: The exponent.
    """
    if len(statistic.shape) == 1:
        return ops.power(epsilon + statistic, power)
    values, vectors = ops.eigh(statistic)
    values = epsilon + ops.maximum(values, ops.zeros_like(values))
    return (vectors * ops.power(values, power)) @ ops.transpose(vectors)
