"""Recorded functions: what they return, what they compute once, what they refuse."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch_calls import Calls

from keras_adaptive.optimizers.engine.torch.program import CannotRecord, Program

pytestmark = pytest.mark.torch

BINARY = {
    "add": torch.add,
    "mul": torch.mul,
    "sub": torch.sub,
    "max": torch.maximum,
    "where": lambda a, b: torch.where(a > b, a, b * 2),
    "rsub": lambda a, b: 1 - a * b,
}
UNARY = {
    "abs": torch.abs,
    "root": lambda a: torch.sqrt(torch.abs(a) + 1),
    "zeros": lambda a: torch.zeros_like(a) + a,
    "copy": torch.clone,
    "opposite": torch.neg,
    "narrow": lambda a: a.to(torch.float32).to(torch.float64),
}
NAMES = ("a", "b", "c")


@st.composite
def functions(draw):
    """Functions of two numbers and three arrays, which return any of their values."""
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from([*BINARY, *UNARY]),
                st.integers(0, 99),
                st.integers(0, 99),
            ),
            max_size=12,
        )
    )
    results = draw(st.dictionaries(st.sampled_from(NAMES), st.integers(0, 99)))

    def function(numbers, arrays):
        values = [*arrays.values(), *numbers]
        for name, first, second in steps:
            a = values[first % len(values)]
            b = values[second % len(values)]
            values.append(BINARY[name](a, b) if name in BINARY else UNARY[name](a))
        full = [value for value in values if value.ndim]
        return {name: full[place % len(full)] for name, place in results.items()}

    return function


def random(size, seed):
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.randn(size, generator=generator).double() for n in NAMES}


def numbers(seed):
    return [torch.tensor(0.5 + seed).double(), torch.tensor(-1.5 * seed).double()]


@settings(max_examples=300, deadline=None)
@given(functions())
def test_a_program_returns_what_its_function_returns(function):
    try:
        program = Program(function, numbers(0), random(6, 0))
    except CannotRecord as error:
        assume("is overwritten" not in str(error))
        raise
    arrays = random(10, 1)
    expected = random(10, 1) | dict(function(numbers(1), random(10, 1)))
    cut = [{n: a[part] for n, a in arrays.items()} for part in (slice(7), slice(7, 10))]
    program.run(program.start(numbers(1)), cut)
    for name in NAMES:
        torch.testing.assert_close(
            arrays[name], expected[name], rtol=0, atol=0, equal_nan=True
        )


def calls_of(program, parts):
    given = numbers(1)
    with Calls() as calls:
        program.run(program.start(given), parts)
    return calls.names


def test_what_depends_on_numbers_is_computed_once():
    def function(numbers, arrays):
        return {"a": arrays["a"] * torch.exp(numbers[0])}

    program = Program(function, numbers(0), random(6, 0))
    names = calls_of(program, [random(4, seed) for seed in range(5)])
    assert names["exp"] == 1
    assert names["mul"] == 5


def test_what_depends_on_nothing_is_computed_when_it_is_recorded():
    def function(numbers, arrays):
        return {"a": arrays["a"] * torch.exp(torch.tensor(2.0).double())}

    program = Program(function, numbers(0), random(6, 0))
    assert calls_of(program, [random(4, 0)]) == {"mul": 1}


def test_what_no_result_needs_is_not_computed():
    def function(numbers, arrays):
        torch.exp(numbers[0]), torch.sqrt(arrays["b"])
        return {"a": arrays["a"] * 2}

    program = Program(function, numbers(0), random(6, 0))
    assert calls_of(program, [random(4, 0)]) == {"mul": 1}


def test_a_negated_value_is_added_where_it_was_subtracted():
    def function(numbers, arrays):
        return {"a": arrays["a"] - (-arrays["b"])}

    program = Program(function, numbers(0), random(6, 0))
    assert calls_of(program, [random(4, 0)]) == {"add": 1}


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda n, a: {"a": a["a"] * float(n[0])}, "returns no tensor"),
        (lambda n, a: {"a": a["a"] if n[0] > 0 else a["b"]}, "returns no tensor"),
        (lambda n, a: {"a": a["a"] * a["a"].sum()}, "for each entry"),
        (lambda n, a: {"a": torch.cat([a["a"][:3], a["b"][3:]])}, "part of a tensor"),
        (lambda n, a: {"a": a["a"].mul_(2.0)}, "part of a tensor"),
        (lambda n, a: {"a": a["b"], "b": a["a"]}, "is overwritten"),
    ],
)
def test_what_cannot_be_recorded_is_refused(function, reason):
    with pytest.raises(CannotRecord, match=reason):
        Program(function, numbers(0), random(6, 0))
