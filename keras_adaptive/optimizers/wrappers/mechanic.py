"""Mechanic."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import keras
from keras import ops

from keras_adaptive.optimizers.base import AdaptiveOptimizer
from keras_adaptive.optimizers.contract import (
    DECAY_RATE,
    NON_NEGATIVE,
    PACKAGE,
    PARAMETER,
    POSITIVE,
    Slot,
    hyperparameter,
)
from keras_adaptive.optimizers.engine.variables import VariableFactory
from keras_adaptive.optimizers.wrappers.base import (
    Wrapper,
    constrained,
    nested,
    norm,
    widest,
    write,
)
from keras_adaptive.optimizers.wrappers.sam import SharpnessAware

BETAS = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)

POINTS = {"Ftrl", "ScheduleFreeAdamW"}
"""Classes, ours or Keras's, whose state is of points though no slot says so."""

SIZES = {"Adafactor", "LARS", "Lamb"}
"""Classes, ours or Keras's, whose steps are in proportion to the weights."""

DECAYS = (
    "weight_decay",
    "adam_weight_decay",
    "l1_regularization_strength",
    "l2_regularization_strength",
    "l2_shrinkage_regularization_strength",
)
"""Arguments that draw weights to zero."""


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
    schedule with peak `1.0`. If it accumulates gradients, only its updates count, with
    g their mean.

    An optimizer that keeps points (a moving average, the slow weights of Lookahead, z
    of schedule-free, where DoG, Prodigy or Ftrl started) steps from weights of its own,
    p = w₀ + Δ, so that its points stay those of its own trajectory; gradients are still
    taken at w. The point p' at which it is to be evaluated becomes w₀ + S (p' - w₀).
    Around such a one Δ is kept, constraints hold for w and not for p, and variables
    must have 32 bits or more. What looks at the size of weights would look at p, so it
    cannot be had together with points: weight decay, Lamb, LARS and Adafactor.

    When to use: to save the search for a learning rate, around an optimizer and a
        schedule that are known to work. Not where a good rate is known, nor for large
        sparse tables: it looks at whole variables. What matters: the schedule;
        `s_decay` if training is unstable.

    Sparse gradients are made dense: the scale is one number, so every step moves all
    weights. For large tables use an optimizer by itself.

    Raises:
        TypeError: `optimizer` is none, or an argument belongs to it.
        ValueError: A number is outside its bounds; `optimizer` is or holds SAM (wrap
            the Mechanic instead: `SAM(Mechanic(...))`), keeps points and looks at the
            size of weights, holds optimizers that differ in their accumulation, or is
            a `LossScaleOptimizer` (which goes outside); or variables have 16 bits and
            the optimizer keeps points.

    Example:

    >>> import keras, keras_adaptive
    >>> from keras_adaptive.optimizers import Adam, Mechanic
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(Mechanic(Adam(learning_rate=1.0)), "mse")

    References:

    - [Cutkosky et al., 2023](https://arxiv.org/abs/2306.00144); m starts at 1e-6 and
      w⁺ takes the place of w in h, as in the authors' package
    """

    s_decay: float = hyperparameter(
        0.0,
        NON_NEGATIVE,
        """λ, draws the scale down the more, the larger the weights; the paper has
        0.01.""",
    )
    betas: Sequence[float] = hyperparameter(BETAS, doc="β of each tuner, in `[0, 1)`.")
    s_init: float = hyperparameter(1e-4, POSITIVE, "s₀, the scale to begin with.")
    epsilon: float = hyperparameter(
        1e-8, POSITIVE, "Keeps denominators away from zero."
    )
    store_delta: bool = hyperparameter(
        False,
        doc="""Keeps Δ and takes w₀ to be w - S Δ. Otherwise w₀ is kept and Δ is
        (w - w₀) / (S + ε), as in the authors' package; that is rounded more while the
        scale is small, and smaller by ε / S. It has no effect around an optimizer that
        keeps points.""",
    )

    def _check_optimizer(self, variables) -> None:
        self.betas = tuple(self.betas)
        for i, beta in enumerate(self.betas):
            DECAY_RATE.check(type(self).__name__, f"betas[{i}]", beta)
        if not self.betas:
            raise ValueError(f"{type(self).__name__}: `betas` must not be empty.")
        self._check_composition(variables)

    def _check_composition(self, variables) -> None:
        owner = type(self).__name__
        for inner in nested(self.optimizer):
            if isinstance(inner, SharpnessAware):
                sam = type(inner).__name__
                raise ValueError(
                    f"{owner} cannot wrap {sam}, half of whose calls are no steps, and "
                    f"whose distance it would scale. Use {sam}({owner}(...))."
                )
        if len(self._calls_an_update) > 1:
            raise ValueError(
                f"{owner} cannot wrap optimizers that differ in "
                "`gradient_accumulation_steps`: its scale is one number for all of "
                f"them. Received: {sorted(self._calls_an_update)}."
            )
        if self._has_points:
            self._check_points(owner, variables)

    def _check_points(self, owner: str, variables) -> None:
        """What cannot be had with an optimizer that lives at a point of its own."""
        for inner in nested(self.optimizer):
            found = next((name for name in DECAYS if _decays(inner, name)), None)
            if found or _classes(inner) & SIZES:
                why = f"`{found}`" if found else "steps in proportion to the weights"
                raise ValueError(
                    f"{owner} cannot wrap {type(inner).__name__} with {why} together "
                    "with a moving average, slow weights or other points that the "
                    "optimizer keeps: these are of its own unscaled weights, not of "
                    "the model's. Leave one of the two out."
                )
        for variable in variables:
            dtype = keras.backend.standardize_dtype(variable.dtype)
            if dtype in ("float16", "bfloat16"):
                raise ValueError(
                    f"{owner} around an optimizer that keeps a moving average, slow "
                    "weights or other points needs variables of at least 32 bits: its "
                    f"own unscaled weights are large. '{variable.path}' is {dtype}. "
                    "Use a policy such as 'mixed_bfloat16'."
                )

    @property
    def _has_points(self) -> bool:
        """Whether the optimizer keeps points, so that it must not be moved."""
        return any(
            getattr(inner, "use_ema", False)
            or getattr(inner, "evaluation_point", None)
            or _classes(inner) & POINTS
            or any(slot.initial == PARAMETER for slot in _slots(inner))
            for inner in nested(self.optimizer)
        )

    @property
    def _calls_an_update(self) -> set[int]:
        leaves = (o for o in nested(self.optimizer) if not _holds_others(o))
        return {leaf.gradient_accumulation_steps or 1 for leaf in leaves}

    @property
    def slots(self):
        if self.store_delta or self._has_points:
            slots = {"displacement": Slot()}
        else:
            slots = {"reference": Slot(PARAMETER)}
        if max(self._calls_an_update, default=1) > 1:
            slots["gradient_sum"] = Slot()
        return slots

    @property
    def _kept(self) -> dict[int, keras.Variable]:
        name = "displacement" if "displacement" in self._state else "reference"
        return self._state[name]

    def _add_numbers(self, factory: VariableFactory) -> None:
        dtype, tuners = widest(self._kept.values()), (len(self.betas),)
        for name in ("scale", "reward", "squares"):
            self._numbers[name] = factory.number(name, dtype, tuners)
        self._numbers["largest"] = factory.number("largest", dtype, tuners, 1e-6)

    def _given(self, gradient, variable):
        return self._whole(gradient, variable)

    def _advance(self, grads, variables, apply) -> None:
        updates = self._updates()
        weights, total = self._weights(), self._total()
        delta = {i: self._delta(i, w, total) for i, w in weights.items()}
        steps = self._steps(apply)
        slopes = self._slopes(grads, variables)

        def tune():
            ahead = {i: weights[i] + step for i, step in steps.items()}
            product = self._product(self._means(slopes), delta, ahead, total)
            self._land(weights, delta, steps, total, self._tuned(product))

        if "gradient_sum" not in self._state:
            tune()
            return
        for i, slope in slopes.items():
            self._state["gradient_sum"][i].assign_add(slope)
        self._branch(
            ops.not_equal(self._updates(), updates),
            tune,
            lambda: self._carry(weights, steps, total),
        )

    def _updates(self):
        """The updates that the optimizers have made, all together."""
        leaves = (o for o in nested(self.optimizer) if not _holds_others(o))
        return sum(ops.cast(ops.copy(leaf.iterations), "int64") for leaf in leaves)

    def _total(self):
        return ops.sum(self._numbers["scale"])

    def _steps(self, move: Callable[[], None]) -> dict:
        """What the optimizer adds to its weights when it is made to move.

        Its weights are those of the model, w, or if it keeps points, w₀ + Δ: there
        its points and its weights stay together. The model is left at them.
        """
        if not self._has_points:
            before = self._weights()
            move()
        else:
            for i, w in self._weights().items():
                one = ops.ones_like(self._total())
                rest = ops.cast(one - self._total(), w.dtype) * self._kept[i]
                write(self._trainable_variables[i], w + rest)
            before = self._weights()
            with _unconstrained(self._trainable_variables):
                move()
        return {i: after - before[i] for i, after in self._weights().items()}

    def _land(self, weights, delta, steps, total, new_total) -> None:
        """Puts the weights at w₀ + S Δ."""
        for i, kept in self._kept.items():
            moved, start = delta[i] + steps[i], kept
            if "displacement" in self._state:
                start = weights[i] - ops.cast(total, kept.dtype) * delta[i]
                write(kept, moved)
            self._put(i, start + ops.cast(new_total, kept.dtype) * moved)

    def _carry(self, weights, steps, total) -> None:
        """Moves the weights with those of the optimizer, at the scale as it is."""
        for i, kept in self._kept.items():
            if "displacement" in self._state:
                kept.assign_add(steps[i])
            self._put(i, weights[i] + ops.cast(total, kept.dtype) * steps[i])

    def _put(self, i: int, value) -> None:
        variable = self._trainable_variables[i]
        write(variable, constrained(variable, value))

    def _weights(self) -> dict:
        variables = self._trainable_variables
        return {
            i: ops.cast(ops.copy(variables[i]), kept.dtype)
            for i, kept in self._kept.items()
        }

    def _delta(self, i: int, weights, total):
        kept = ops.copy(self._kept[i])
        if "displacement" in self._state:
            return kept
        return (weights - kept) / ops.cast(total + self.epsilon, kept.dtype)

    def _slopes(self, grads, variables) -> dict:
        """The gradients by index, without loss scale."""
        kept = self._kept
        pairs = zip(grads, variables, strict=True)
        known = {self._get_variable_index(v): g for g, v in pairs if g is not None}
        factor = self.loss_scale_factor or 1.0
        return {
            i: ops.cast(g, kept[i].dtype) / factor
            for i, g in known.items()
            if i in kept
        }

    def _means(self, slopes) -> dict:
        """The gradients of an update; empties their sums."""
        if "gradient_sum" not in self._state:
            return slopes
        sums, (calls,) = self._state["gradient_sum"], self._calls_an_update
        means = {i: ops.copy(total) / calls for i, total in sums.items()}
        for total in sums.values():
            total.assign(ops.zeros(total.shape, total.dtype))
        return means

    def _product(self, slopes, delta, ahead, total):
        """h, how much the loss falls to first order along Δ."""
        dtype = self._numbers["scale"].dtype

        def along_delta(tensors):
            products = (ops.sum(delta[i] * tensor) for i, tensor in tensors.items())
            return sum(ops.cast(product, dtype) for product in products)

        product = along_delta(slopes)
        if self.s_decay:
            size = norm(slopes.values()) / norm(ahead.values())
            product = product + self.s_decay * total * size * along_delta(ahead)
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

    # Points at which to evaluate: those of the optimizer, scaled as its weights are.

    def to_evaluation(self) -> None:
        self._follow(super().to_evaluation)

    def to_training(self) -> None:
        self._follow(super().to_training)

    def finalize_variable_values(self, var_list) -> None:
        self._follow(partial(super().finalize_variable_values, var_list))

    def _follow(self, move: Callable[[], None]) -> None:
        """Moves the weights as `move` moves those of the optimizer."""
        if self.built:
            weights, total = self._weights(), self._total()
            self._carry(weights, self._steps(move), total)


def _classes(optimizer) -> set[str]:
    return {cls.__name__ for cls in type(optimizer).__mro__}


def _slots(optimizer) -> Iterable[Slot]:
    ours = isinstance(optimizer, (AdaptiveOptimizer, Wrapper))
    return optimizer.slots.values() if ours else ()


def _holds_others(optimizer) -> bool:
    return hasattr(optimizer, "optimizer") or hasattr(optimizer, "optimizers")


def _decays(optimizer, name: str) -> bool:
    fallback = getattr(optimizer, "fallback", None)
    return bool(getattr(optimizer, name, None) or getattr(fallback, name, None))


@contextlib.contextmanager
def _unconstrained(variables) -> Iterator[None]:
    """Without the constraints of the variables, which are of the scaled weights."""
    constraints = [variable.constraint for variable in variables]
    for variable in variables:
        variable.constraint = None
    try:
        yield
    finally:
        for variable, constraint in zip(variables, constraints, strict=True):
            variable.constraint = constraint
