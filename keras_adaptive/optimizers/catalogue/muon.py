"""Muon."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.catalogue.adam import Adam
from keras_adaptive.optimizers.catalogue.shared.matrix_optimizer import MatrixOptimizer
from keras_adaptive.optimizers.contract import (
    DECAY_RATE,
    NON_NEGATIVE,
    NON_NEGATIVE_OR_NONE,
    PACKAGE,
    POSITIVE,
    POSITIVE_OR_NONE,
    Hyper,
    Interval,
    LearningRate,
    Slot,
    State,
    hyperparameter,
)
from keras_adaptive.optimizers.contract.norms import norm


@keras.saving.register_keras_serializable(PACKAGE)
class Muon(MatrixOptimizer):
    """Muon: orthogonalizes the momentum, so that all directions get equal steps.

    With the gradient G of an n × m matrix, the momentum M, its decay rate μ and the
    learning rate η:

        M ← μ M + G
        O = NewtonSchulz(G + μ M)
        W ← W - η 0.2 √max(n, m) O

    where NewtonSchulz maps a matrix U S Vᵀ to about U Vᵀ: it divides the matrix by its
    Frobenius norm and then makes `ns_steps` steps of X ← a X + (b X Xᵀ + c (X Xᵀ)²) X.
    The singular values of the result lie between about 0.7 and 1.2. The factor 0.2 is
    `rms_rate`. It makes the entries of a step about as large as Adam's, so Adam's
    learning rate and weight decay can be kept. Newton-Schulz is computed in float32,
    and in float64 for float64 variables.

    AdamW, or the `fallback`, updates embeddings, variables that are not matrices, and
    those that `exclude_layers` names. Name the last layer of a classifier or a language
    model there.

    When to use: for the hidden matrices of transformers and larger networks, where it
        needs fewer steps than AdamW and half of its memory. Avoid it for small
        networks. Little is known about fine-tuning weights that AdamW has trained. Each
        step costs `ns_steps` times three matrix products. What matters:
        `learning_rate`, `weight_decay`, and the last layer in `exclude_layers`.

    Sparse gradients of embeddings belong to AdamW or the fallback, which defers them if
    it can. Matrices have no deferred updates, because their singular vectors change
    with every row: their sparse gradients are made dense.

    Raises:
        ValueError: As for `Adam`, and if the fallback sums numbers over all variables,
            or does not support the requested `sparse="deferred"`.

    Example:

    >>> import keras, keras_adaptive
    >>> model = keras.Sequential(
    ...     [
    ...         keras.layers.Embedding(1000, 8),
    ...         keras.layers.Dense(8, activation="relu"),
    ...         keras.layers.Dense(10, name="head"),
    ...     ]
    ... )
    >>> model.compile(keras_adaptive.optimizers.Muon(exclude_layers=["head"]), "mse")

    References:

    - [Jordan et al., 2024](https://kellerjordan.github.io/posts/muon/)
    - [Liu et al., 2025](https://arxiv.org/abs/2502.16982) for `rms_rate`
    """

    learning_rate: LearningRate = hyperparameter(default=0.001)
    adam_beta_1: float = hyperparameter(DECAY_RATE, "AdamW's `beta_1`.", default=0.9)
    adam_beta_2: float = hyperparameter(DECAY_RATE, "AdamW's `beta_2`.", default=0.999)
    adam_weight_decay: float | None = hyperparameter(
        NON_NEGATIVE_OR_NONE, "AdamW's weight decay, or `None`.", default=0.004
    )
    epsilon: float = hyperparameter(NON_NEGATIVE, "AdamW's `epsilon`.", default=1e-7)
    weight_decay: float | None = hyperparameter(
        doc="Decoupled weight decay of the matrices.", default=0.004
    )
    clipnorm: float | None = hyperparameter(default=None)
    clipvalue: float | None = hyperparameter(default=None)
    global_clipnorm: float | None = hyperparameter(default=None)
    use_ema: bool = hyperparameter(default=False)
    ema_momentum: float = hyperparameter(default=0.99)
    ema_overwrite_frequency: int | None = hyperparameter(default=None)
    loss_scale_factor: float | None = hyperparameter(default=None)
    gradient_accumulation_steps: int | None = hyperparameter(default=None)
    name: str | None = hyperparameter(default=None)
    exclude_layers: list[str] | None = hyperparameter(
        doc="""Regular expressions. AdamW updates a variable if one of them matches a
        part of its path.""",
        default=None,
    )
    exclude_embeddings: bool = hyperparameter(
        doc="""Leaves embeddings to AdamW: variables with "embedding" in their path.""",
        default=True,
    )
    muon_a: float = hyperparameter(doc="a, the coefficient of X.", default=3.4445)
    muon_b: float = hyperparameter(doc="b, the coefficient of X Xᵀ X.", default=-4.7750)
    muon_c: float = hyperparameter(
        doc="c, the coefficient of (X Xᵀ)² X.", default=2.0315
    )
    adam_lr_ratio: float = hyperparameter(
        POSITIVE,
        "Scales AdamW's step but, as in Keras, not its weight decay.",
        default=1,
    )
    momentum: float = hyperparameter(
        DECAY_RATE, "μ, decay rate of the momentum.", default=0.95
    )
    ns_steps: int = hyperparameter(
        Interval(0, whole=True), "The number of Newton-Schulz steps.", default=5
    )
    nesterov: bool = hyperparameter(
        doc="Orthogonalizes G + μ M instead of M.", default=True
    )
    rms_rate: float | None = hyperparameter(
        POSITIVE_OR_NONE,
        "Scales the step to the size of Adam's; `None` for W ← W - η O.",
        default=0.2,
    )
    fallback: AdaptiveOptimizer | None = hyperparameter(
        doc="""An `AdaptiveOptimizer` that replaces AdamW. It keeps its own learning
        rate and weight decay, and its other base options have no effect. `epsilon` and
        the arguments that begin with `adam_` then have no effect either.""",
        default=None,
    )

    slots = {"momentum": Slot()}
    embedding_pattern = "(?i)embedding"

    def default_fallback(self) -> AdaptiveOptimizer:
        # The learning rate, which scales the decay, includes the ratio.
        decay = self.adam_weight_decay and self.adam_weight_decay / self.adam_lr_ratio
        return Adam(
            beta_1=self.adam_beta_1,
            beta_2=self.adam_beta_2,
            epsilon=self.epsilon,
            weight_decay=decay,
            sparse=self.sparse,
        )

    def uses_fallback(self, variable: Any) -> bool:
        return len(variable.shape) != 2 or super().uses_fallback(variable)

    def fallback_learning_rate(self, learning_rate: Any) -> Any:
        rate = super().fallback_learning_rate(learning_rate)
        return rate * self.adam_lr_ratio if self._default_fallback else rate

    def rule(self, gradient: Any, state: State, hyper: Hyper) -> tuple[Any, State]:
        momentum = hyper.momentum * state["momentum"] + gradient
        update = gradient + hyper.momentum * momentum if self.nesterov else momentum
        coefficients = hyper.muon_a, hyper.muon_b, hyper.muon_c
        step = newton_schulz(update, coefficients, self.ns_steps, hyper.number(1e-7))
        if self.rms_rate is not None:
            longest = max(hyper.parameter.shape)
            step = step * hyper.number(self.rms_rate * math.sqrt(longest))
        return hyper.learning_rate * step, {"momentum": momentum}


def newton_schulz(
    matrix: Any, coefficients: tuple[Any, Any, Any], steps: int, epsilon: Any
) -> Any:
    """Returns about U Vᵀ of a matrix U S Vᵀ.

    Args:
        matrix: Tensor of two axes.
        coefficients: a, b and c. Each step maps the singular values x to
            a x + b x³ + c x⁵.
        steps: The number of steps.
        epsilon: Added to the Frobenius norm by which the matrix is divided first.
    """
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    x = ops.transpose(matrix) if tall else matrix
    x = x / (norm(x) + epsilon)
    for _ in range(steps):
        square = x @ ops.transpose(x)
        x = a * x + (b * square + c * (square @ square)) @ x
    return ops.transpose(x) if tall else x
