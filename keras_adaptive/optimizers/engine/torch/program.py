"""A function of tensors, recorded as a straight line of PyTorch's calls.

A rule is written in `keras.ops`, which take longer to find out what they were given
than to compute it for a thousand entries. A program has only the calls that this comes
to. What depends on no array is computed once, and not for each part of an array; what
depends on no input at all, when the program is recorded. Intermediate values are
written over those that are no longer needed, so that they stay in the cache.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

ALIASES = ("lift_fresh", "detach")
"""Calls that return what they are given, where nothing is differentiated."""

DECIDES_FLOW = ("_local_scalar_dense", "is_nonzero", "equal")
"""Calls that return Python numbers, which may decide what is called next."""


Part = dict[str, torch.Tensor]
"""Arrays of one axis and one size, by name."""


class CannotRecord(Exception):
    """The function does more than to call PyTorch on its tensors."""


@dataclasses.dataclass(frozen=True)
class Place:
    """The place of a tensor among the values of a program."""

    index: int


@dataclasses.dataclass(frozen=True)
class Call:
    """A call, with places for its tensors.

    Args:
        function: The function.
        arguments: Its positional arguments.
        keywords: Its other arguments.
        target: The place of what it returns.
        dtype: The dtype of what it returns.
        overwrites: Whether it can write what it returns over a tensor that it is given.
    """

    function: Callable[..., torch.Tensor]
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    target: int
    dtype: torch.dtype
    overwrites: bool

    @property
    def sources(self) -> list[int]:
        """The places that it reads."""
        given = (*self.arguments, *self.keywords.values())
        return [each.index for each in given if isinstance(each, Place)]

    def __call__(self, values: list[Any], **out: torch.Tensor) -> None:
        """Reads values at their places, and puts there what the function returns."""
        arguments = [
            values[each.index] if type(each) is Place else each
            for each in self.arguments
        ]
        keywords = {
            name: values[each.index] if type(each) is Place else each
            for name, each in self.keywords.items()
        }
        values[self.target] = self.function(*arguments, **keywords, **out)


class _Recorder(TorchDispatchMode):
    """Keeps the calls that are made, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        returned = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, returned))
        return returned


class Program:
    """A function of numbers and arrays, recorded for arrays of any size.

    Args:
        function: Returns the new values of some arrays by name, computed by PyTorch
            from its arguments alone. It must treat each entry by itself; `record`
            cannot find out whether it does.
        numbers: Tensors with one entry, which all parts of the arrays share.
        arrays: Tensors of one axis, by name.

    Raises:
        CannotRecord: What the function does depends on values, it writes, or it looks
            at several entries at once.
    """

    def __init__(
        self,
        function: Callable[..., Mapping[str, torch.Tensor]],
        numbers: Sequence[torch.Tensor],
        arrays: Mapping[str, torch.Tensor],
    ) -> None:
        with _Recorder() as recorder:
            results = function(numbers, arrays)
        self._values: list[Any] = []
        self._places: dict[int, int] = {}
        self._kept = [recorder.calls, results]  # so that no id comes twice
        self._numbers = [self._add(tensor, None) for tensor in numbers]
        self._arrays = {
            name: self._add(tensor, None) for name, tensor in arrays.items()
        }
        varies = {*self._numbers, *self._arrays.values()}
        by_array = set(self._arrays.values())
        shape = next(iter(arrays.values())).shape
        self._once: list[Call] = []
        self._each: list[Call] = []
        for func, args, kwargs, returned in recorder.calls:
            call = self._call(func, args, kwargs, returned)
            if call is None:
                continue
            sources = set(call.sources)
            if not sources & varies:
                self._values[call.target] = returned
                continue
            varies.add(call.target)
            if not sources & by_array:
                self._once.append(call)
                continue
            if returned.shape != shape:
                raise CannotRecord(f"`{func}` does not return an entry for each entry.")
            by_array.add(call.target)
            self._each.append(call)
        self._results = {name: self._place(r) for name, r in results.items()}
        written = {
            self._arrays[n] for n, p in self._results.items() if p != self._arrays[n]
        }
        for name, place in self._results.items():
            if place in written - {self._arrays[name]}:
                raise CannotRecord(f"`{name}` becomes an array that is overwritten.")
        self._each = _without_negations(self._each)
        needed = set(self._results.values())
        self._each = _needed(self._each, needed)
        self._once = _needed(self._once, needed)
        self._plan = _Plan(self._each, self._arrays, self._results)
        del self._kept, self._places

    def _add(self, tensor: Any, value: Any) -> int:
        self._values.append(value)
        self._places[id(tensor)] = len(self._values) - 1
        return len(self._values) - 1

    def _place(self, tensor: torch.Tensor) -> int:
        """Returns the place of a tensor; one of nowhere is a constant."""
        known = self._places.get(id(tensor))
        return self._add(tensor, tensor) if known is None else known

    def _call(self, func: Any, args: Any, kwargs: Any, returned: Any) -> Call | None:
        """Returns what was recorded as a call, or `None` if it computed nothing."""
        name = func.overloadpacket.__name__
        if name in ALIASES:
            self._places[id(returned)] = self._place(args[0])
            return None
        if name in DECIDES_FLOW or not isinstance(returned, torch.Tensor):
            raise CannotRecord(f"`{name}` returns no tensor.")
        if any(r.alias_info is not None for r in func._schema.returns):
            raise CannotRecord(f"`{name}` returns a part of a tensor.")

        def placed(given: Any) -> Any:
            if isinstance(given, torch.Tensor):
                return Place(self._place(given))
            if isinstance(given, (list, tuple)):
                raise CannotRecord(f"`{name}` takes several tensors, or a shape.")
            return given

        arguments = tuple(map(placed, args))
        keywords = {name: placed(given) for name, given in kwargs.items()}
        public = getattr(torch, name, func)
        overwrites = _takes_out(public, args, kwargs, returned)
        function = public if overwrites else func
        target = self._add(returned, None)
        return Call(function, arguments, keywords, target, returned.dtype, overwrites)

    def start(self, numbers: Sequence[torch.Tensor]) -> list[Any]:
        """Returns the values that all parts of the arrays share, for `run`."""
        values = list(self._values)
        for place, number in zip(self._numbers, numbers, strict=True):
            values[place] = number
        for call in self._once:
            call(values)
        return values

    def run(self, shared: list[Any], parts: Sequence[Part]) -> None:
        """Overwrites arrays by their new values, part by part.

        Args:
            shared: What `start` returned.
            parts: The arrays by name, contiguous.
        """
        values = list(shared)
        sizes = [next(iter(part.values())).numel() for part in parts]
        size, device = max(sizes), next(iter(parts[0].values())).device
        scratch = [
            torch.empty(size, dtype=dtype, device=device)
            for dtype in self._plan.scratch
        ]
        for now, part in zip(sizes, parts, strict=True):
            memory = scratch if now == size else [each[:now] for each in scratch]
            for name, place in self._arrays.items():
                values[place] = part[name]
            for each in self._plan.steps:
                if each.array is not None:
                    each.call(values, out=part[each.array])
                elif each.scratch is not None:
                    each.call(values, out=memory[each.scratch])
                else:
                    each.call(values)
            for name, place in self._plan.copies.items():
                part[name].copy_(values[place])


def _without_negations(calls: Sequence[Call]) -> list[Call]:
    """Returns calls with `a + b` for each `a - (-b)`, which is the same number."""
    opposites = {
        call.target: call.arguments[0] for call in calls if call.function is torch.neg
    }

    def simpler(call: Call) -> Call:
        subtracted = call.arguments[1:]
        if call.function is not torch.sub or call.keywords or len(subtracted) != 1:
            return call
        place = subtracted[0].index if isinstance(subtracted[0], Place) else None
        if place not in opposites:
            return call
        arguments = (call.arguments[0], opposites[place])
        return dataclasses.replace(call, function=torch.add, arguments=arguments)

    return [simpler(call) for call in calls]


def _needed(calls: Sequence[Call], places: set[int]) -> list[Call]:
    """Returns the calls that some places depend on, and adds what these read."""
    kept: list[Call] = []
    for call in reversed(calls):
        if call.target in places:
            kept.append(call)
            places.update(call.sources)
    return kept[::-1]


def _takes_out(
    function: Callable[..., Any], args: Any, kwargs: Any, returned: torch.Tensor
) -> bool:
    """Returns whether a function can write what it returned to a tensor it is given."""
    out = torch.empty_like(returned)
    try:
        function(*args, **kwargs, out=out)
    except (TypeError, RuntimeError):
        return False
    return torch.equal(out, returned)


@dataclasses.dataclass(frozen=True)
class _Step:
    """A call, and the array or the number of the scratch tensor that it writes to."""

    call: Call
    array: str | None = None
    scratch: int | None = None


class _Plan:
    """Where each call of a program writes.

    Attributes:
        scratch: The dtypes of the tensors that intermediate values are written to.
        steps: The calls, with the places that they write to.
        copies: The places of the results that must still be copied to their arrays.
    """

    def __init__(
        self,
        calls: Sequence[Call],
        arrays: Mapping[str, int],
        results: Mapping[str, int],
    ) -> None:
        self.scratch: list[torch.dtype] = []
        self.steps: list[_Step] = []
        self.copies = {n: p for n, p in results.items() if p != arrays[n]}
        last = {place: i for i, call in enumerate(calls) for place in call.sources}
        # Results are read once more, when they are copied.
        last |= dict.fromkeys(self.copies.values(), len(calls))
        free: list[int] = []
        held: dict[int, int] = {}
        for i, call in enumerate(calls):
            array = self._array(call, i, arrays, last) if call.overwrites else None
            # A value that is read here for the last time can be written over.
            ended = [p for p in set(call.sources) if p in held and last[p] == i]
            free += [held.pop(place) for place in ended]
            if array is not None or not call.overwrites:
                self.steps.append(_Step(call, array))
                continue
            held[call.target] = self._free(call.dtype, free)
            self.steps.append(_Step(call, scratch=held[call.target]))

    def _array(
        self, call: Call, i: int, arrays: Mapping[str, int], last: Mapping[int, int]
    ) -> str | None:
        """Returns the array whose new value a call returns, if it may be written."""
        for name, place in self.copies.items():
            if place == call.target and last.get(arrays[name], -1) <= i:
                del self.copies[name]
                return name
        return None

    def _free(self, dtype: torch.dtype, free: list[int]) -> int:
        for number in free:
            if self.scratch[number] == dtype:
                free.remove(number)
                return number
        self.scratch.append(dtype)
        return len(self.scratch) - 1
