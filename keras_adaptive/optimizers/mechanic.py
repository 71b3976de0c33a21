"""Mechanic."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import ops

from keras_adaptive.optimizers.base import PACKAGE
from keras_adaptive.optimizers.bounds import DECAY_RATE, NON_NEGATIVE, POSITIVE
from keras_adaptive.optimizers.rule import PARAMETER, Slot
from keras_adaptive.optimizers.wrapper import Wrapper, constrained, norm, widest, write

if keras.backend.backend() == "tensorflow":
    from keras_adaptive.optimizers import rows

BETAS = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)


@keras.saving.register_keras_serializable(PACKAGE)
class Mechanic(Wrapper):
    """Mechanic: finds the scale of the learning rate of any optimizer.

    The optimizer steps from the current weights w to w + u. Mechanic adds up its steps,
    and puts the weights at a scaled sum of them from where they started, w₀. With the
    gradient g and n tuners, each with its own β, scale s, reward r, largest product
    m and squares v, all of them numbers:

        h ← -⟨Δ, g + λ S |g| w⁺ / |w⁺|⟩,  w⁺ = w + u
        m ← max(β m, |h|)
        v ← β² v + h²
        r ← max(0, β r + s h)
        s ← (m s₀ / n + r) / (√v + ε)
        Δ ← Δ + u
        w ← w₀ + S Δ,  S = Σ s

    The learning rate of the optimizer is a factor of that scale: give it `1.0`, or a
    schedule with peak `1.0`.

    When to use: to save the search for a learning rate, around an optimizer and a
        schedule that are known to work. Not where a good rate is known, nor for large
        sparse tables: it looks at whole variables. What matters: the schedule;
        `s_decay` if training is unstable.

    Args:
        optimizer: The optimizer to wrap: an instance, a name or a config. Its
            arguments (`clipnorm`, `weight_decay`, ...) are given to itself; not
            `use_ema` or `gradient_accumulation_steps`.
        s_decay: λ, draws the scale down the more, the larger the weights; at least 0.
            Defaults to `0.0`; the paper has 0.01.
        betas: β of each tuner, in `[0, 1)`.
        s_init: s₀, the scale to begin with, above 0. Defaults to `1e-4`.
        epsilon: Keeps denominators away from zero; above 0. Defaults to `1e-8`.
        store_delta: Keep Δ and take w₀ to be w - S Δ. Otherwise w₀ is kept and Δ
            is (w - w₀) / (S + ε), as in the authors' package; that is rounded
            more while the scale is small, and smaller by ε / S. Defaults to `False`.
        name: Name of the wrapper.

    Sparse gradients are made dense: the scale is one number, so every step moves all
    weights. For large tables use an optimizer by itself.

    Raises:
        TypeError: `optimizer` is none, or an argument belongs to it.
        ValueError: A number is outside its bounds; `optimizer` accumulates gradients,
            averages weights or is schedule-free; it is another wrapper (wrap the
            Mechanic instead: `SAM(Mechanic(...))`) or a `LossScaleOptimizer` (which
            goes outside); or there are several replicas of `tf.distribute`.

    Example:

    >>> import keras, keras_adaptive
    >>> from keras_adaptive.optimizers import Adam, Mechanic
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(Mechanic(Adam(learning_rate=1.0)), "mse")

    References:

    - [Cutkosky et al., 2023](https://arxiv.org/abs/2306.00144); m starts at 1e-6 and
      w⁺ takes the place of w in h, as in the authors' package
    """

    bounds = {"s_decay": NON_NEGATIVE, "s_init": POSITIVE, "epsilon": POSITIVE}

    def __init__(
        self,
        optimizer,
        s_decay: float = 0.0,
        betas: Sequence[float] = BETAS,
        s_init: float = 1e-4,
        epsilon: float = 1e-8,
        store_delta: bool = False,
        **options,
    ):
        super().__init__(optimizer, **options)
        self.s_decay = s_decay
        self.betas = tuple(betas)
        self.s_init = s_init
        self.epsilon = epsilon
        self.store_delta = store_delta
        self._check()

    def _check(self) -> None:
        owner = type(self).__name__
        for i, beta in enumerate(self.betas):
            DECAY_RATE.check(owner, f"betas[{i}]", beta)
        if not self.betas:
            raise ValueError(f"{owner}: `betas` must not be empty.")
        if isinstance(self.optimizer, Wrapper):
            inner = type(self.optimizer).__name__
            raise ValueError(
                f"{owner} cannot wrap {inner}, whose calls are not all steps. Use "
                f"{inner}({owner}(...))."
            )
        for option in ("use_ema", "gradient_accumulation_steps", "evaluation_point"):
            if getattr(self.optimizer, option, None):
                raise ValueError(
                    f"{owner} cannot wrap an optimizer with `{option}`: it scales each "
                    "step of that optimizer after it was made."
                )

    @property
    def slots(self):
        if self.store_delta:
            return {"displacement": Slot()}
        return {"reference": Slot(PARAMETER)}

    def _add_numbers(self) -> None:
        dtype, tuners = widest(self._kept.values()), (len(self.betas),)
        self._add_number("scale", dtype, tuners)
        self._add_number("reward", dtype, tuners)
        self._add_number("squares", dtype, tuners)
        self._add_number("largest", dtype, tuners, initial=1e-6)

    def _advance(self, grads, variables) -> None:
        grads = [self._whole(g, v) for g, v in zip(grads, variables, strict=True)]
        before, total = self._weights(), ops.sum(self._numbers["scale"])
        delta = {i: self._delta(i, w, total) for i, w in before.items()}
        self.optimizer.apply(grads, variables)
        after = self._weights()
        product = self._product(grads, variables, delta, after, total)
        new_total = self._tuned(product)
        for i, kept in self._kept.items():
            moved = delta[i] + after[i] - before[i]
            start = kept
            if self.store_delta:
                start = before[i] - ops.cast(total, kept.dtype) * delta[i]
                write(kept, moved)
            variable = self._trainable_variables[i]
            value = start + ops.cast(new_total, kept.dtype) * moved
            write(variable, constrained(variable, value))

    def _whole(self, gradient, variable):
        ids, values = self._by_row(gradient, variable)
        if ids is None:
            return gradient
        return rows.dense(rows.Rows(ids, values), tuple(variable.shape))

    def _weights(self) -> dict:
        variables = self._trainable_variables
        return {
            i: ops.cast(ops.copy(variables[i]), kept.dtype)
            for i, kept in self._kept.items()
        }

    def _delta(self, i: int, weights, total):
        kept = ops.copy(self._kept[i])
        if self.store_delta:
            return kept
        return (weights - kept) / ops.cast(total + self.epsilon, kept.dtype)

    def _product(self, grads, variables, delta, after, total):
        """h, how much the loss falls to first order along Δ."""
        dtype = self._numbers["scale"].dtype
        indices = [self._get_variable_index(variable) for variable in variables]
        known = {
            i: ops.cast(g, delta[i].dtype) / (self.loss_scale_factor or 1.0)
            for i, g in zip(indices, grads, strict=True)
            if g is not None and i in delta
        }

        def along_delta(tensors):
            products = (ops.sum(delta[i] * tensor) for i, tensor in tensors.items())
            return sum(ops.cast(product, dtype) for product in products)

        product = along_delta(known)
        if self.s_decay:
            weight = self.s_decay * total * norm(known.values()) / norm(after.values())
            product = product + weight * along_delta(after)
        return -product

    def _tuned(self, product):
        """Takes the tuners one step further; returns the sum of their scales."""
        old = {name: ops.convert_to_tensor(v) for name, v in self._numbers.items()}
        betas = ops.convert_to_tensor(self.betas, product.dtype)
        reward = betas * old["reward"] + old["scale"] * product
        new = {
            "largest": ops.maximum(betas * old["largest"], ops.abs(product)),
            "squares": betas**2 * old["squares"] + product**2,
            "reward": ops.maximum(reward, ops.zeros_like(reward)),
        }
        wealth = new["largest"] * self.s_init / len(self.betas) + new["reward"]
        new["scale"] = wealth / (ops.sqrt(new["squares"]) + self.epsilon)
        for name, value in new.items():
            write(self._numbers[name], value)
        return ops.sum(new["scale"])
