"""Muon."""

from __future__ import annotations

import math
from functools import partial

import keras
from keras import ops

from keras_adaptive.optimizers.base import PACKAGE, AdaptiveOptimizer
from keras_adaptive.optimizers.catalogue.adam import Adam
from keras_adaptive.optimizers.catalogue.shared.matrix_optimizer import MatrixOptimizer
from keras_adaptive.optimizers.catalogue.shared.norms import norm
from keras_adaptive.optimizers.contract.constraints import (
    DECAY_RATE,
    NON_NEGATIVE,
    POSITIVE,
    Interval,
)
from keras_adaptive.optimizers.contract.slot import Slot


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

    Args:
        learning_rate: A float, a schedule, or a callable. Defaults to `0.001`.
        adam_beta_1: AdamW's `beta_1`. Defaults to `0.9`.
        adam_beta_2: AdamW's `beta_2`. Defaults to `0.999`.
        adam_weight_decay: AdamW's weight decay, or `None`. Defaults to `0.004`.
        epsilon: AdamW's `epsilon`. Defaults to `1e-7`.
        weight_decay: Of the matrices. Defaults to `0.004`.
        clipnorm: See `AdaptiveOptimizer`, as the arguments up to `name`.
        exclude_layers: Regular expressions: a variable in whose path one of them is
            found is left to AdamW. Defaults to `None`.
        exclude_embeddings: Whether embeddings are, that is, variables with
            "embedding" in their path. Defaults to `True`.
        muon_a: a of the iteration. Defaults to `3.4445`.
        muon_b: b of the iteration. Defaults to `-4.7750`.
        muon_c: c of the iteration. Defaults to `2.0315`.
        adam_lr_ratio: Scales AdamW's step, but, as in Keras, not its weight decay.
            Above 0. Defaults to `1`.
        momentum: μ, in `[0, 1)`. Defaults to `0.95`.
        ns_steps: Steps of Newton-Schulz. Defaults to `5`.
        nesterov: Whether to orthogonalize G + μ M; otherwise M. Defaults to `True`.
        rms_rate: Scales the step, see above; `None` for W ← W - η O. Defaults to `0.2`.
        fallback: An `AdaptiveOptimizer` in place of AdamW; the arguments that begin
            with `adam_`, and `epsilon`, then mean nothing. Its learning rate is its
            own, and so is its weight decay; its other base options mean nothing.
        **options: Keras's base options and `sparse`; see `AdaptiveOptimizer`.

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

    slots = {"momentum": Slot()}
    bounds = {
        "adam_beta_1": DECAY_RATE,
        "adam_beta_2": DECAY_RATE,
        "adam_weight_decay": Interval(0.0, optional=True),
        "epsilon": NON_NEGATIVE,
        "adam_lr_ratio": POSITIVE,
        "momentum": DECAY_RATE,
        "ns_steps": Interval(0, whole=True),
        "rms_rate": Interval(0.0, open_low=True, optional=True),
    }
    dense_only = "it needs whole matrices. Leave large tables to the fallback."
    embedding_pattern = "(?i)embedding"

    def __init__(
        self,
        learning_rate=0.001,
        adam_beta_1: float = 0.9,
        adam_beta_2: float = 0.999,
        adam_weight_decay: float | None = 0.004,
        epsilon: float = 1e-7,
        weight_decay: float | None = 0.004,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        exclude_layers: list[str] | None = None,
        exclude_embeddings: bool = True,
        muon_a: float = 3.4445,
        muon_b: float = -4.7750,
        muon_c: float = 2.0315,
        adam_lr_ratio: float = 1,
        momentum: float = 0.95,
        ns_steps: int = 5,
        nesterov: bool = True,
        rms_rate: float | None = 0.2,
        fallback: AdaptiveOptimizer | None = None,
        **options,
    ):
        super().__init__(
            learning_rate,
            exclude_layers,
            exclude_embeddings,
            weight_decay=weight_decay,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            use_ema=use_ema,
            ema_momentum=ema_momentum,
            ema_overwrite_frequency=ema_overwrite_frequency,
            loss_scale_factor=loss_scale_factor,
            gradient_accumulation_steps=gradient_accumulation_steps,
            name=name,
            **options,
        )
        self.adam_beta_1 = adam_beta_1
        self.adam_beta_2 = adam_beta_2
        self.adam_weight_decay = adam_weight_decay
        self.epsilon = epsilon
        self.muon_a = muon_a
        self.muon_b = muon_b
        self.muon_c = muon_c
        self.adam_lr_ratio = adam_lr_ratio
        self.momentum = momentum
        self.ns_steps = ns_steps
        self.nesterov = nesterov
        self.rms_rate = rms_rate
        # The ratio is in the learning rate, and with that it would be in the decay.
        decay = adam_weight_decay and adam_weight_decay / adam_lr_ratio
        adam = partial(
            Adam,
            beta_1=adam_beta_1,
            beta_2=adam_beta_2,
            epsilon=epsilon,
            weight_decay=decay,
        )
        self._fall_back_on(adam, fallback, options.get("sparse"))

    def uses_fallback(self, variable) -> bool:
        return len(variable.shape) != 2 or super().uses_fallback(variable)

    def _part_learning_rate(self, part, learning_rate):
        rate = super()._part_learning_rate(part, learning_rate)
        if part is self or not self._default_fallback:
            return rate
        return rate * self.adam_lr_ratio

    def rule(self, gradient, state, hyper):
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
