"""Mechanic."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from functools import partial
from typing import Any

import keras
from keras import ops

from keras_adaptive.optimizers.contract import (
    DECAY_RATE,
    NON_NEGATIVE,
    PACKAGE,
    PARAMETER,
    POSITIVE,
    Slot,
    hyperparameter,
)
from keras_adaptive.optimizers.contract.override import override
from keras_adaptive.optimizers.engine.marks import are_replaced, checksum
from keras_adaptive.optimizers.engine.variables import VariableFactory
from keras_adaptive.optimizers.wrappers import tuner
from keras_adaptive.optimizers.wrappers.base import Wrapper
from keras_adaptive.optimizers.wrappers.compatibility import (
    calls_per_update,
    check_composition,
    check_points,
    keeps_points,
)
from keras_adaptive.optimizers.wrappers.gradients import dense
from keras_adaptive.optimizers.wrappers.nesting import leaves
from keras_adaptive.optimizers.wrappers.weights import (
    constrained,
    unconstrained,
    widest,
    write,
)
from keras_adaptive.plain_numbers import plain

BETAS = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)

Tensors = dict[int, Any]
"""Tensors by the index of the variable."""


@keras.saving.register_keras_serializable(PACKAGE)
class Mechanic(Wrapper):
    """Mechanic: tunes the scale of the learning rate of any optimizer.

    The optimizer steps from the current weights w to w + u. Mechanic sums these steps,
    scales the sum and adds it to the initial weights w₀. With the gradient g and n
    tuners, each with its own β and four numbers (the scale s, the reward r, the largest
    product m and the squares v):

        h ← -⟨Δ, g + λ S |g| w⁺ / |w⁺|⟩,  w⁺ = w + u
        m ← max(β m, |h|)
        v ← β² v + h²
        r ← max(0, β r + s h)
        s ← (m s₀ / n + r) / (√v + ε)
        Δ ← Δ + u
        w ← w₀ + S Δ,  S = Σ s

    The learning rate of the optimizer multiplies this scale: give it `1.0`, or a
    schedule with peak `1.0`. If the optimizer accumulates gradients, Mechanic tunes
    only at its updates, and g is their mean.

    Some optimizers keep points: a moving average, the slow weights of Lookahead, z of
    schedule-free optimizers, or the initial weights of DoG, Prodigy and Ftrl. Such an
    optimizer steps from its own weights p = w₀ + Δ, so that its points belong to its
    own trajectory. Gradients are still computed at w. Its evaluation point p' becomes
    w₀ + S (p' - w₀). Δ is then kept, constraints hold for w and not for p, and
    variables must have 32 bits or more. Such an optimizer must not depend on the size
    of the weights, because it would use that of p. This excludes weight decay, Lamb,
    LARS and Adafactor.

    When to use: around an optimizer and a schedule that are known to work, to save the
        search for a learning rate. Avoid it where a good rate is known, and for large
        sparse tables, because it updates whole variables. What matters: the schedule,
        and `s_decay` if training is unstable.

    Sparse gradients are made dense: the scale is one number, so every step moves all
    weights. For large tables, use an optimizer without Mechanic.

    Raises:
        TypeError: `optimizer` is no optimizer, or an argument belongs to it.
        ValueError: A hyper-parameter is outside its constraint; or `optimizer` is or
            holds SAM (use `SAM(Mechanic(...))`), keeps points and depends on the size
            of the weights, holds optimizers that differ in their accumulation, or is a
            `LossScaleOptimizer` (which goes outside); or variables have 16 bits and the
            optimizer keeps points.

    Example:

    >>> import keras, keras_adaptive
    >>> from keras_adaptive.optimizers import Adam, Mechanic
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(Mechanic(Adam(learning_rate=1.0)), "mse")

    References:

    - [Cutkosky et al., 2023](https://arxiv.org/abs/2306.00144); as in the authors'
      package, m starts at 1e-6 and h uses w⁺ instead of w
    """

    s_decay: float = hyperparameter(
        NON_NEGATIVE,
        "λ, lowers the scale in proportion to the weights. The paper uses 0.01.",
        default=0.0,
    )
    betas: Sequence[float] = hyperparameter(
        doc="β of each tuner, in `[0, 1)`.", default=BETAS
    )
    s_init: float = hyperparameter(POSITIVE, "s₀, the initial scale.", default=1e-4)
    epsilon: float = hyperparameter(POSITIVE, "ε, added to denominators.", default=1e-8)
    store_delta: bool = hyperparameter(
        doc="""Keeps Δ and computes w₀ as w - S Δ. Otherwise w₀ is kept and Δ is
        (w - w₀) / (S + ε), as in the authors' package; this has a larger rounding error
        while the scale is small, and is smaller by ε / S. An optimizer that keeps
        points always has Δ kept.""",
        default=False,
    )

    @override
    def _check_optimizer(self, variables: list[keras.Variable]) -> None:
        owner = type(self).__name__
        self.betas = tuple(plain(beta) for beta in self.betas)
        for i, beta in enumerate(self.betas):
            DECAY_RATE.check(owner, f"betas[{i}]", beta)
        if not self.betas:
            raise ValueError(f"{owner}: `betas` must not be empty.")
        check_composition(owner, self.optimizer)
        if keeps_points(self.optimizer):
            check_points(owner, self.optimizer, variables)

    @property
    @override
    def slots(self) -> dict[str, Slot]:
        """The slots of each variable by name."""
        if self.store_delta or keeps_points(self.optimizer):
            slots = {"displacement": Slot()}
        else:
            slots = {"reference": Slot(PARAMETER)}
        if max(calls_per_update(self.optimizer), default=1) > 1:
            slots["gradient_sum"] = Slot()
        return slots

    @property
    @override
    def _kept(self) -> dict[int, keras.Variable]:
        name = "displacement" if "displacement" in self._state else "reference"
        return self._state[name]

    @override
    def _add_numbers(self, factory: VariableFactory) -> None:
        dtype, tuners = widest(self._kept.values()), (len(self.betas),)
        self._numbers["mark"] = factory.number("mark", "int32")
        for name, initial in tuner.INITIAL.items():
            self._numbers[name] = factory.number(name, dtype, tuners, initial)

    @override
    def _given(self, gradient: Any, variable: Any) -> Any:
        return dense(gradient, variable)

    @override
    def _advance(
        self, grads: list[Any], variables: list[Any], apply: Callable[[], None]
    ) -> None:
        same, updates = self._begin(), self._updates()
        weights, total = self._weights(), self._total()
        delta = {i: self._delta(i, w, total) for i, w in weights.items()}
        steps = self._steps(apply, same)
        slopes = self._slopes(grads, variables)

        def tune() -> None:
            ahead = {i: weights[i] + step for i, step in steps.items()}
            means = self._means(slopes)
            h = tuner.product(means, delta, ahead, total, self.s_decay)
            still = weights.keys() - slopes.keys()
            self._land(weights, delta, steps, total, self._tuned(h), still)

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

    def _updates(self) -> Any:
        """Returns the number of updates that the optimizers have made together."""
        iterations = (leaf.iterations for leaf in leaves(self.optimizer))
        return sum(ops.cast(ops.copy(count), "int64") for count in iterations)

    def _total(self) -> Any:
        """Returns S, the sum of the scales."""
        return ops.sum(self._numbers["scale"])

    def _weights(self) -> Tensors:
        """Returns copies of the weights, in the dtype of the state."""
        variables = self._trainable_variables
        return {
            i: ops.cast(ops.copy(variables[i]), kept.dtype)
            for i, kept in self._kept.items()
        }

    def _delta(self, i: int, weights: Any, total: Any) -> Any:
        """Returns Δ of a variable."""
        kept = ops.copy(self._kept[i])
        if "displacement" in self._state:
            return kept
        return (weights - kept) / ops.cast(total + self.epsilon, kept.dtype)

    def _steps(self, move: Callable[[], None], same: Any) -> Tensors:
        """Returns the steps of the optimizer, which `move` makes it take.

        It steps from the weights of the model, w. If it keeps points, it steps from
        w₀ + Δ, where its weights and its points belong together. The model is left at
        the weights after the step.
        """
        if not keeps_points(self.optimizer):
            before = self._weights()
            move()
        else:
            for i, w in self._weights().items():
                one = ops.ones_like(self._total())
                rest = ops.cast(one - self._total(), w.dtype) * self._kept[i]
                write(self._trainable_variables[i], w + rest)
            before = self._weights()
            # These weights were computed again, and rounded.
            self._mark_parts_again(same)
            with unconstrained(self._trainable_variables):
                move()
        return {i: after - before[i] for i, after in self._weights().items()}

    def _begin(self) -> Any:
        """Forgets w₀ and Δ if somebody has set the weights since the last mark.

        Returns:
            Bool scalar, whether there was a mark and the weights are the same.
        """
        mark = self._numbers["mark"]
        replaced = are_replaced(mark, self._trainable_variables)
        self._branch(replaced, self._restart)
        kept = ops.logical_and(ops.not_equal(mark, 0), ops.logical_not(replaced))
        mark.assign(0)
        return kept

    def _restart(self) -> None:
        for i, kept in self._kept.items():
            if "displacement" in self._state:
                write(kept, ops.zeros(kept.shape, kept.dtype))
            else:
                write(kept, self._trainable_variables[i])

    def _slopes(self, grads: list[Any], variables: list[Any]) -> Tensors:
        """Returns the gradients by index, without loss scale."""
        kept = self._kept
        pairs = zip(grads, variables, strict=True)
        known = {self._get_variable_index(v): g for g, v in pairs if g is not None}
        factor = self.loss_scale_factor or 1.0
        return {
            i: ops.cast(g, kept[i].dtype) / factor
            for i, g in known.items()
            if i in kept
        }

    def _means(self, slopes: Tensors) -> Tensors:
        """Returns the mean gradients of an update, and empties their sums."""
        if "gradient_sum" not in self._state:
            return slopes
        sums, (calls,) = self._state["gradient_sum"], calls_per_update(self.optimizer)
        means = {i: ops.copy(total) / calls for i, total in sums.items()}
        for total in sums.values():
            total.assign(ops.zeros(total.shape, total.dtype))
        return means

    def _tuned(self, h: Any) -> Any:
        """Moves the tuners one step, and returns the sum of their scales."""
        old = {n: ops.convert_to_tensor(self._numbers[n]) for n in tuner.INITIAL}
        new = tuner.tuned(old, h, self.betas, self.s_init, self.epsilon)
        for name, value in new.items():
            write(self._numbers[name], value)
        return ops.sum(new["scale"])

    def _land(
        self,
        weights: Tensors,
        delta: Tensors,
        steps: Tensors,
        total: Any,
        new_total: Any,
        still: Set[int],
    ) -> None:
        """Moves the weights to w₀ + S Δ.

        Variables without a gradient stand still, unless earlier calls of the same
        update gave them one. The new scale then changes their w₀ or their Δ.
        """
        for i, kept in self._kept.items():
            # A tensor: Keras takes an empty variable that is added for a bias.
            moved, start = delta[i] + steps[i], ops.copy(kept)
            if "displacement" in self._state:
                start = weights[i] - ops.cast(total, kept.dtype) * delta[i]
                write(kept, moved)
            landed = start + ops.cast(new_total, kept.dtype) * moved
            if i in still:
                landed = ops.where(ops.any(steps[i] != 0), landed, weights[i])
            self._put(i, landed)

    def _carry(self, weights: Tensors, steps: Tensors, total: Any) -> None:
        """Moves the weights with those of the optimizer, with an unchanged scale."""
        for i, kept in self._kept.items():
            if "displacement" in self._state:
                kept.assign_add(steps[i])
            self._put(i, weights[i] + ops.cast(total, kept.dtype) * steps[i])

    def _put(self, i: int, value: Any) -> None:
        variable = self._trainable_variables[i]
        write(variable, constrained(variable, value))

    # The evaluation point is that of the optimizer, scaled as its weights are.

    @override
    def to_evaluation(self) -> None:
        """Moves the variables to the evaluation point; see `evaluating`."""
        self._follow(super().to_evaluation)

    @override
    def to_training(self) -> None:
        """Moves the variables back to the training point, if they are not there."""
        self._follow(super().to_training)

    @override
    def finalize_variable_values(self, var_list: Sequence[Any]) -> None:
        """Moves the variables to the evaluation point at the end of `fit`."""
        self._follow(partial(super().finalize_variable_values, var_list))

    def _follow(self, move: Callable[[], None]) -> None:
        """Moves the weights as `move` moves those of the optimizer."""
        if self.built:
            same = self._begin()
            weights, total = self._weights(), self._total()
            self._carry(weights, self._steps(move, same), total)
            self._numbers["mark"].assign(-checksum(self._trainable_variables))
