"""Hyper-parameters that are declared once, and the former names of the contract."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops
from optimizer_cases import EVERY, WRAPPERS, name_of

from keras_adaptive.optimizers import (
    DECAY_RATE,
    SGD,
    Adam,
    AdaptiveOptimizer,
    Hyper,
    LearningRate,
    Lookahead,
    Slot,
    hyperparameter,
)


class Declared(AdaptiveOptimizer):
    """Steps by the sign of the momentum.

    Example:

    >>> Declared(0.1)  # doctest: +SKIP
    """

    learning_rate: LearningRate = hyperparameter(default=0.5)
    beta: float = hyperparameter(DECAY_RATE, "The decay rate.", default=0.75)
    slots = {"momentum": Slot()}

    def rule(self, gradient, state, hyper):
        m = hyper.beta * state["momentum"] + (1 - hyper.beta) * gradient
        return hyper.learning_rate * ops.sign(m), {"momentum": m}


class ByHand(AdaptiveOptimizer):
    constraints = {"beta": DECAY_RATE}
    slots = Declared.slots
    rule = Declared.rule

    def __init__(self, learning_rate=0.5, beta=0.75, **options):
        super().__init__(learning_rate, **options)
        self.beta = beta


def steps(optimizer):
    variable = keras.Variable(np.ones(3))
    for gradient in ([1.0, -1.0, 2.0], [-3.0, 1.0, 0.5]):
        optimizer.apply([ops.convert_to_tensor(gradient)], [variable])
    return ops.convert_to_numpy(variable)


def test_a_declared_constructor_is_the_one_by_hand():
    assert inspect.signature(Declared) == inspect.signature(ByHand)
    assert [*inspect.signature(Declared.__init__).parameters][:3] == [
        *("self", "learning_rate", "beta")
    ]
    for cls in (Declared, ByHand):
        optimizer = cls(0.25, beta=0.5, clipnorm=1.0, name="mine")
        config = optimizer.get_config()
        assert (config["beta"], config["clipnorm"], config["name"]) == (
            0.5,
            1.0,
            "mine",
        )
        assert cls.from_config(config).get_config() == config
        with pytest.raises(ValueError, match=f"{cls.__name__}: `beta` must be"):
            optimizer.beta = 1.5
    np.testing.assert_array_equal(steps(Declared()), steps(ByHand()))


def test_the_documentation_follows_from_the_declaration():
    doc = inspect.getdoc(Declared)
    (line,) = [line for line in doc.splitlines() if "beta:" in line]
    assert line.strip() == "beta: The decay rate. In `[0, 1)`. Defaults to `0.75`."
    assert doc.index("Args:") < doc.index("Example:")
    assert "clipnorm" in inspect.getdoc(AdaptiveOptimizer)


def test_arguments_that_are_missing_or_unknown():
    with pytest.raises(TypeError, match=r"Declared has no argument `bta`.*beta"):
        Declared(bta=0.5)
    with pytest.raises(TypeError, match=r"Lookahead.*`clipnorm`.*optimizer in it"):
        Lookahead(Adam(), clipnorm=1.0)
    with pytest.raises(TypeError, match="Lookahead.*optimizer"):
        Lookahead()
    with pytest.raises(TypeError, match="Declared.*too many positional"):
        Declared(0.1, 0.5, 1.0)


def test_a_user_s_constructor_around_a_declared_one():
    class Mine(Adam):
        def __init__(self, learning_rate=0.25, **options):
            super().__init__(learning_rate, beta_1=0.5, **options)

    optimizer = Mine(epsilon=1e-3)
    assert (optimizer.beta_1, optimizer.epsilon) == (0.5, 1e-3)
    assert float(optimizer.learning_rate) == 0.25


@pytest.mark.parametrize("case", (*EVERY, *WRAPPERS), ids=name_of)
def test_each_argument_is_documented(case):
    doc = inspect.getdoc(case.cls)
    for name, declared in case.cls.hyperparameters.items():
        if not declared.kw_only:
            assert f"{name}: " in doc, name
            assert declared.doc.rstrip().endswith("."), name


def test_former_names_work_and_warn():
    with pytest.warns(DeprecationWarning) as caught:

        class Former(AdaptiveOptimizer):
            slots = {"momentum": Slot()}
            shared_slots = {"total": Slot()}
            bounds = {"beta": DECAY_RATE}

            def __init__(self, learning_rate=0.5, beta=0.75, **options):
                super().__init__(learning_rate, **options)
                self.beta = beta

            def measure(self, gradient, state, hyper):
                return {"size": ops.sum(ops.abs(gradient))}

            def share(self, sums, shared, hyper):
                return {"total": shared["total"] + sums["size"]}

            def rule(self, gradient, state, hyper):
                return hyper.learning_rate * hyper.shared["total"] * gradient, state

            def idle(self, state, missed, hyper):
                return None, state

    named = " ".join(str(warning.message) for warning in caught)
    for old in ("bounds", "idle", "measure", "share", "shared_slots"):
        assert f"Former.{old}`" in named
    assert all(warning.filename == __file__ for warning in caught)
    with pytest.raises(ValueError, match="Former: `beta` must be"):
        Former(beta=2.0)
    optimizer = Former()
    assert optimizer.sparse == "deferred"
    variable = keras.Variable(np.zeros(2))
    with pytest.warns(DeprecationWarning, match="hyper.global_state"):
        optimizer.apply([ops.convert_to_tensor([1.0, -2.0])], [variable])
    np.testing.assert_allclose(ops.convert_to_numpy(variable), [-1.5, 3.0])


def test_hyper_says_what_is_missing():
    with pytest.raises(AttributeError, match="no_such_number"):
        _ = Hyper(SGD(), 0.1, 0, "float32").no_such_number
