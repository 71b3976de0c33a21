"""SOAP."""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.catalogue.adam import Adam, corrected_rate
from keras_adaptive.optimizers.catalogue.shared.matrix_optimizer import (
    MatrixOptimizer,
    gram,
    matrix_shape,
    on_both_sides,
)
from keras_adaptive.optimizers.catalogue.shared.moments import averaged
from keras_adaptive.optimizers.contract import (
    DECAY_RATE,
    NON_NEGATIVE,
    PACKAGE,
    Hyper,
    Interval,
    LearningRate,
    Slot,
    State,
    choice,
    hyperparameter,
)

SIDES = ("left", "right")


@keras.saving.register_keras_serializable(PACKAGE)
class SOAP(MatrixOptimizer):
    """SOAP: Adam in the eigenbasis of Shampoo's preconditioner.

    With the gradient G of a matrix, its statistics L and R, orthogonal matrices Q and
    P, and the decay rate β of the statistics:

        G' = Qᵀ G P
        W ← W - Q Adam(G') Pᵀ
        L ← β L + (1 - β) G Gᵀ
        R ← β R + (1 - β) Gᵀ G

    The first call makes no update. It sets L and R, and sets Q and P to their
    eigenvectors. After every `precondition_frequency` updates, Q becomes the orthogonal
    part of L Q (one power iteration), with columns sorted by decreasing eigenvalue. P
    changes likewise, and Adam's moments are moved to the new bases. Weight decay
    follows the step. As in the reference implementation, ε is added to the root of the
    uncorrected second moment.

    Vectors and sides longer than `max_precond_dim` keep their own basis. A variable
    without any other side is updated as by Adam. Variables of more than two axes become
    matrices: the last axis becomes the columns, and all others the rows. Adam with the
    same arguments, or the `fallback`, updates embeddings and the variables that
    `exclude_layers` names.

    When to use: for matrices with sides of moderate length in networks that train long,
        where it needs fewer steps than AdamW and about as few as `Muon`. Avoid it where
        memory is short, because an n × m matrix has 2 (n m + n² + m²) numbers of state,
        and for long sides without a fast QR decomposition. What matters:
        `learning_rate` with warmup, `precondition_frequency` (speed) and
        `max_precond_dim` (memory).

    At first the statistic of a side longer than the other is singular, and any basis
    of its null space will do. Which one is found depends on the last bit of the first
    gradient, and so does the path: runs whose gradients differ by rounding alone soon
    differ by several learning rates. Equal gradients give equal runs.

    Sparse gradients of embeddings belong to Adam or the fallback, which defers them if
    it can. Those of other variables are made dense, because the statistics mix all
    rows.

    Raises:
        ValueError: As for `Muon`.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras_adaptive.optimizers.SOAP(weight_decay=0.01), "mse")

    References:

    - [Vyas et al., 2024](https://arxiv.org/abs/2409.11321)
    """

    learning_rate: LearningRate = hyperparameter(default=0.003)
    beta_1: float = hyperparameter(
        DECAY_RATE, "β₁, decay rate of the momentum.", default=0.95
    )
    beta_2: float = hyperparameter(
        DECAY_RATE, "β₂, decay rate of the velocity.", default=0.95
    )
    shampoo_beta: float = hyperparameter(
        DECAY_RATE, "β, decay rate of the statistics.", default=0.95
    )
    epsilon: float = hyperparameter(
        NON_NEGATIVE, "ε, added to the denominator.", default=1e-8
    )
    precondition_frequency: int = hyperparameter(
        Interval(1, whole=True),
        "The number of updates from one change of the bases to the next.",
        default=10,
    )
    max_precond_dim: int = hyperparameter(
        Interval(0, whole=True),
        "The length of the longest side to precondition.",
        default=10_000,
    )
    exclude_layers: list[str] | None = hyperparameter(
        doc="""Regular expressions. Adam updates a variable if one of them matches a
        part of its path.""",
        default=None,
    )
    exclude_embeddings: bool = hyperparameter(
        doc="""Leaves embeddings to Adam: variables with a name that ends in
        "embeddings", as in `keras.layers.Embedding`.""",
        default=True,
    )
    fallback: AdaptiveOptimizer | None = hyperparameter(
        doc="""An `AdaptiveOptimizer` that replaces Adam. It keeps its own learning rate
        and weight decay, and its other base options have no effect.""",
        default=None,
    )

    def default_fallback(self) -> AdaptiveOptimizer:
        return Adam(
            beta_1=self.beta_1,
            beta_2=self.beta_2,
            epsilon=self.epsilon,
            weight_decay=self.weight_decay,
            sparse=self.sparse,
        )

    @property
    def slots(self) -> dict[str, Slot]:
        left = Slot(shape_of=partial(self._square, 0))
        right = Slot(shape_of=partial(self._square, 1))
        return {
            "momentum": Slot(shape_of=matrix_shape),
            "velocity": Slot(shape_of=matrix_shape),
            "left_statistic": left,
            "right_statistic": right,
            "left_basis": left,
            "right_basis": right,
        }

    def _square(self, side: int, shape: tuple[int, ...]) -> tuple[int, ...]:
        length = matrix_shape(shape)[side]
        turned = len(shape) > 1 and length <= self.max_precond_dim
        return (length, length) if turned else (0, 0)

    def decayed(self, parameter: Any, hyper: Hyper) -> Any:
        return parameter

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        shape = hyper.parameter.shape
        matrix = ops.reshape(gradient, matrix_shape(shape))
        state = dict(state)
        for side, seen in zip(SIDES, (matrix, ops.transpose(matrix)), strict=True):
            statistic = state[f"{side}_statistic"]
            state[f"{side}_statistic"] = averaged(
                statistic, gram(seen, statistic), hyper.shampoo_beta
            )
        step, state = choice(
            ops.equal(hyper.step, hyper.number(1)),
            lambda: (ops.zeros_like(matrix), with_eigenbases(state)),
            lambda: self._adam_step(matrix, state, hyper),
        )
        return ops.reshape(step, shape), state

    def _adam_step(self, matrix: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        """Returns the step and the state of any call but the first."""
        left, right = state["left_basis"], state["right_basis"]
        turned = on_both_sides(matrix, ops.transpose(left), ops.transpose(right))
        updates = hyper.step - 1
        m = averaged(state["momentum"], turned, hyper.beta_1)
        v = averaged(state["velocity"], ops.square(turned), hyper.beta_2)
        rate = corrected_rate(hyper, updates)
        step = rate / (ops.sqrt(v) + hyper.epsilon) * m
        step = on_both_sides(step, left, right)
        parameter = ops.reshape(hyper.parameter, matrix.shape)
        step = step + hyper.learning_rate * hyper.weight_decay * (parameter - step)
        state = {**state, "momentum": m, "velocity": v}
        frequency = hyper.precondition_frequency
        state = choice(
            ops.equal(ops.mod(updates, frequency), ops.zeros_like(updates)),
            lambda: with_next_bases(state),
            lambda: state,
        )
        return step, state


def with_eigenbases(state: State) -> State:
    """Returns the state with the eigenvectors of the statistics as bases."""
    state = dict(state)
    for side in SIDES:
        if state[f"{side}_basis"].shape[0] > 0:
            _, vectors = ops.eigh(state[f"{side}_statistic"])
            state[f"{side}_basis"] = ops.flip(vectors, axis=1)
    return state


def with_next_bases(state: State) -> State:
    """Returns the state with bases and moments after one power iteration."""
    momentum = on_both_sides(
        state["momentum"], state["left_basis"], state["right_basis"]
    )
    state = dict(state)
    for axis, side in enumerate(SIDES):
        basis = state[f"{side}_basis"]
        if basis.shape[0] > 0:
            product = state[f"{side}_statistic"] @ basis
            eigenvalues = ops.sum(basis * product, axis=0)
            order = ops.argsort(-eigenvalues)
            state[f"{side}_basis"], _ = ops.qr(ops.take(product, order, axis=1))
            state["velocity"] = ops.take(state["velocity"], order, axis=axis)
    left, right = (ops.transpose(state[f"{side}_basis"]) for side in SIDES)
    state["momentum"] = on_both_sides(momentum, left, right)
    return state
