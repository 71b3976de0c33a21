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
    """Shampoo: AdaGrad for matrices, with a matrix for each side in place of a rate.

    With the gradient G of a matrix, its statistics L and R and the learning rate η:

        L ← L + G Gᵀ
        R ← R + Gᵀ G
        W ← W - η (ε I + L)^(-1/4) G (ε I + R)^(-1/4)

    and for a vector w ← w - η (ε I + Σ g gᵀ)^(-1/2) g, AdaGrad with the full matrix.
    The roots come from eigenvalues; those that rounding has made negative count as 0.
    The algorithm is the paper's: no average, no momentum, no grafting. As in AdaGrad
    the rate of every direction goes to zero.

    Of sides longer than `max_precond_dim` only the diagonal is kept, as in the paper.
    Variables of more than two axes are matrices with all axes but the last one as
    rows. Embeddings, and what `exclude_layers` names, are updated by AdaGrad, which is
    this with diagonals only, or by the `fallback`.

    When to use: to study it, and small problems whose gradients are badly conditioned.
        `SOAP` is its practical descendant. Not where memory is short: an n × m matrix
        has n² + m² numbers of state; nor for long training. An eigenvalue problem for
        each side every `precondition_frequency` steps. What matters: `learning_rate`
        and `epsilon`, which is a hyper-parameter here.

    Sparse gradients of embeddings are AdaGrad's, for which nothing moves while the
    gradient is zero, or the fallback's. Those of other variables are made dense, as
    the statistics mix all rows.

    Raises:
        ValueError: As `Muon`.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.Shampoo(0.1), "mse")

    References:

    - [Gupta et al., 2018](https://arxiv.org/abs/1802.09568)
    """

    learning_rate: LearningRate = hyperparameter(
        0.001, doc="; this algorithm tends to want more (0.01 to 1)."
    )
    epsilon: float = hyperparameter(1e-4, POSITIVE, "ε, added to the statistics.")
    precondition_frequency: int = hyperparameter(
        1,
        Interval(1, whole=True),
        """Every how many steps the roots are computed; above 1 they are kept in
        between, n² + m² more numbers.""",
    )
    max_precond_dim: int = hyperparameter(
        1024, Interval(0, whole=True), "The longest side with a whole matrix."
    )
    exclude_layers: list[str] | None = hyperparameter(
        None,
        doc="""Regular expressions: a variable in whose path one of them is found is
        left to AdaGrad.""",
    )
    exclude_embeddings: bool = hyperparameter(
        True,
        doc="""Whether embeddings are, that is, variables with a name that ends in
        "embeddings", as in `keras.layers.Embedding`.""",
    )
    fallback: AdaptiveOptimizer | None = hyperparameter(
        None,
        doc="""An `AdaptiveOptimizer` in place of AdaGrad. Its learning rate is its
        own, and so is its weight decay; its other base options mean nothing.""",
    )

    def default_fallback(self):
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

        def roots():
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


def powered(statistic, epsilon, power):
    """(ε I + statistic) to a power; of a vector, as the diagonal."""
    if len(statistic.shape) == 1:
        return ops.power(epsilon + statistic, power)
    values, vectors = ops.eigh(statistic)
    values = epsilon + ops.maximum(values, ops.zeros_like(values))
    return (vectors * ops.power(values, power)) @ ops.transpose(vectors)
