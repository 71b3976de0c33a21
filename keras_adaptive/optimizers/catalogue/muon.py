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
    PACKAGE,
    POSITIVE,
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
    """Muon: momentum made orthogonal, so that all directions are stepped alike.

    With the gradient G of an n × m matrix, the momentum M, the learning rate η and
    the momentum's decay rate μ:

        M ← μ M + G
        O = NewtonSchulz(G + μ M)
        W ← W - η 0.2 √max(n, m) O

    where NewtonSchulz takes a matrix U S Vᵀ to about U Vᵀ: it divides by the Frobenius
    norm and then makes `ns_steps` steps of X ← a X + (b X Xᵀ + c (X Xᵀ)²) X. What is
    left of S lies between about 0.7 and 1.2. The factor 0.2 is `rms_rate`: it makes
    entries of the step about as large as Adam's, so Adam's learning rate and weight
    decay can be kept. Newton-Schulz is computed in float32 or, for variables of it,
    float64.

    Variables that are not matrices, embeddings, and what `exclude_layers` names are
    updated by AdamW, or by the `fallback`. The last layer of a classifier or a
    language model should be among them.

    When to use: the hidden matrices of transformers and larger networks, where it needs
        fewer steps than AdamW with half of its memory. Not for small networks, and
        little is known of fine-tuning what AdamW has trained. Each step costs
        `ns_steps` times three products of matrices. What matters: `learning_rate`,
        `weight_decay`, and naming the last layer in `exclude_layers`.

    Sparse gradients of embeddings are AdamW's or the fallback's, deferred if it can be.
    There is none for matrices, whose singular vectors change with every row: their
    sparse gradients are made dense.

    Raises:
        ValueError: As `Adam`; also if the fallback has numbers of all variables
            together, or `sparse="deferred"` is asked for that it has not.

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

    learning_rate: LearningRate = hyperparameter(0.001)
    adam_beta_1: float = hyperparameter(0.9, DECAY_RATE, "AdamW's `beta_1`.")
    adam_beta_2: float = hyperparameter(0.999, DECAY_RATE, "AdamW's `beta_2`.")
    adam_weight_decay: float | None = hyperparameter(
        0.004, Interval(0.0, optional=True), "AdamW's weight decay, or `None`."
    )
    epsilon: float = hyperparameter(1e-7, NON_NEGATIVE, "AdamW's `epsilon`.")
    weight_decay: float | None = hyperparameter(0.004, doc="Of the matrices.")
    clipnorm: float | None = hyperparameter(None)
    clipvalue: float | None = hyperparameter(None)
    global_clipnorm: float | None = hyperparameter(None)
    use_ema: bool = hyperparameter(False)
    ema_momentum: float = hyperparameter(0.99)
    ema_overwrite_frequency: int | None = hyperparameter(None)
    loss_scale_factor: float | None = hyperparameter(None)
    gradient_accumulation_steps: int | None = hyperparameter(None)
    name: str | None = hyperparameter(None)
    exclude_layers: list[str] | None = hyperparameter(
        None,
        doc="""Regular expressions: a variable in whose path one of them is found is
        left to AdamW.""",
    )
    exclude_embeddings: bool = hyperparameter(
        True,
        doc="""Whether embeddings are, that is, variables with "embedding" in their
        path.""",
    )
    muon_a: float = hyperparameter(3.4445, doc="a of the iteration.")
    muon_b: float = hyperparameter(-4.7750, doc="b of the iteration.")
    muon_c: float = hyperparameter(2.0315, doc="c of the iteration.")
    adam_lr_ratio: float = hyperparameter(
        1,
        POSITIVE,
        "Scales AdamW's step, but, as in Keras, not its weight decay. Above 0.",
    )
    momentum: float = hyperparameter(0.95, DECAY_RATE, "μ.")
    ns_steps: int = hyperparameter(
        5, Interval(0, whole=True), "Steps of Newton-Schulz."
    )
    nesterov: bool = hyperparameter(
        True, doc="Whether to orthogonalize G + μ M; otherwise M."
    )
    rms_rate: float | None = hyperparameter(
        0.2,
        Interval(0.0, open_low=True, optional=True),
        "Scales the step, see above; `None` for W ← W - η O.",
    )
    fallback: AdaptiveOptimizer | None = hyperparameter(
        None,
        doc="""An `AdaptiveOptimizer` in place of AdamW; the arguments that begin
        with `adam_`, and `epsilon`, then mean nothing. Its learning rate is
        its own, and so is its weight decay; its other base options mean
        nothing.""",
    )

    slots = {"momentum": Slot()}
    embedding_pattern = "(?i)embedding"

    def default_fallback(self):
        # The ratio is in the learning rate, and with that it would be in the decay.
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


def newton_schulz(matrix, coefficients, steps: int, epsilon):
    """About U Vᵀ of a matrix U S Vᵀ.

    Args:
        matrix: Tensor of two axes.
        coefficients: a, b, c of x ← a x + b x³ + c x⁵, by which each step changes the
            singular values.
        steps: Number of steps.
        epsilon: Added to the norm that the matrix is divided by at first.
    """
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    x = ops.transpose(matrix) if tall else matrix
    x = x / (norm(x) + epsilon)
    for _ in range(steps):
        square = x @ ops.transpose(x)
        x = a * x + (b * square + c * (square @ square)) @ x
    return ops.transpose(x) if tall else x
