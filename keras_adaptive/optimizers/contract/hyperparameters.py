"""Hyper-parameters, each declared once: default, constraint and documentation."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NoReturn, dataclass_transform

from keras_adaptive.optimizers.contract.constraints import Interval
from keras_adaptive.optimizers.contract.renamed import adopt_former_names
from keras_adaptive.plain_numbers import plain

SECTIONS = re.compile(r"^ *(Raises|Example|References):\n", re.MULTILINE)
WIDTH = 84

DECLARED = "declared_signature"
"""The attribute of constructors that were made from declarations."""


@dataclasses.dataclass(frozen=True)
class Hyperparameter:
    """A declared argument of a constructor; see `hyperparameter`."""

    default: Any = inspect.Parameter.empty
    constraint: Interval | None = None
    doc: str = ""
    kw_only: bool = False

    def completed_by(self, inherited: Hyperparameter | None) -> Hyperparameter:
        """Returns the declaration, with what it leaves out of the one it replaces."""
        if inherited is None:
            return self
        return dataclasses.replace(
            self,
            constraint=self.constraint or inherited.constraint,
            doc=self.doc or inherited.doc,
        )

    def parameter(self, name: str) -> inspect.Parameter:
        """Returns the parameter of the constructor."""
        by_name = inspect.Parameter.KEYWORD_ONLY
        by_place = inspect.Parameter.POSITIONAL_OR_KEYWORD
        kind = by_name if self.kw_only else by_place
        return inspect.Parameter(name, kind, default=self.default)

    def documentation(self, name: str) -> str:
        """Returns the paragraphs of the docstring, without indentation."""
        first, *others = inspect.cleandoc(self.doc).split("\n\n")
        sentences = [f"{name}: {first}"]
        if self.constraint is not None:
            words = self.constraint.notation
            sentences.append(f"{words[0].upper()}{words[1:]}.")
        if self.default is not inspect.Parameter.empty:
            sentences.append(f"Defaults to `{self.default!r}`.")
        paragraphs = [_filled(" ".join(sentences))]
        return "\n\n".join([*paragraphs, *(_filled("    " + p) for p in others)])


def _filled(text: str) -> str:
    text = text[: len(text) - len(text.lstrip())] + " ".join(text.split())
    return textwrap.fill(text, WIDTH - 8, subsequent_indent="    ")


def hyperparameter(
    constraint: Interval | None = None,
    doc: str = "",
    *,
    default: Any = inspect.Parameter.empty,
    kw_only: bool = False,
) -> Any:
    """Declares a hyper-parameter in the body of an optimizer.

    From the declarations come the constructor, its signature and documentation,
    `get_config`, and the checks whenever the attribute is set.

    Args:
        constraint: The interval that numbers must lie in.
        doc: Its meaning, in one or two sentences.
        default: The default; without one the argument is required.
        kw_only: Whether the constructor takes it by name only.

    Example:

    >>> from keras_adaptive.optimizers import (
    ...     DECAY_RATE, AdaptiveOptimizer, LearningRate, hyperparameter
    ... )
    >>> class Mine(AdaptiveOptimizer):
    ...     learning_rate: LearningRate = hyperparameter(default=0.001)
    ...     beta: float = hyperparameter(DECAY_RATE, "Decay rate.", default=0.9)
    >>> Mine(beta=0.5).get_config()["beta"]
    0.5
    >>> Mine(beta=2.0)
    Traceback (most recent call last):
      ...
    ValueError: Mine: `beta` must be a finite number >= 0 and < 1. Received: beta=2.0
    """
    return Hyperparameter(default, constraint, doc, kw_only)


@dataclass_transform(field_specifiers=(hyperparameter,))
class Declared:
    """A class whose constructor follows from the hyper-parameters it declares.

    A class that declares any gets a constructor that checks the arguments and hands
    them, all by name, to the nearest constructor written by hand. Arguments come in the
    order of their declarations, those of base classes first; what a class declares
    again takes its new place.
    """

    hyperparameters: ClassVar[Mapping[str, Hyperparameter]] = {}
    constraints: ClassVar[Mapping[str, Interval]] = {}
    __signature__: ClassVar[inspect.Signature]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        adopt_former_names(cls)
        own = {n: v for n, v in vars(cls).items() if isinstance(v, Hyperparameter)}
        for name, hyper in own.items():
            # Keras has properties of some of these names.
            delattr(cls, name)
            own[name] = hyper.completed_by(cls.hyperparameters.get(name))
        inherited = {n: h for n, h in cls.hyperparameters.items() if n not in own}
        cls.hyperparameters = inherited | own
        declared = {n: h.constraint for n, h in own.items() if h.constraint is not None}
        parents = [vars(base).get("constraints", {}) for base in cls.__mro__[::-1]]
        cls.constraints = {n: c for each in parents for n, c in each.items()} | declared
        by_hand = _constructor_by_hand(cls)
        if "__init__" not in vars(cls) and own and by_hand is not object.__init__:
            setattr(cls, "__init__", _constructor(cls, by_hand))  # noqa: B010
        cls.__signature__ = _signature(cls)
        if own and vars(cls).get("__doc__"):
            cls.__doc__ = documented(cls)

    @classmethod
    def refuse_argument(cls, name: str) -> NoReturn:
        """Raises the error about an argument that the constructor does not take."""
        raise TypeError(
            f"{cls.__name__} has no argument `{name}`. It takes: "
            f"{', '.join(cls.hyperparameters)}."
        )

    @classmethod
    def check_constraint(cls, name: str, value: Any) -> None:
        """Checks a value of a hyper-parameter, if it has a constraint.

        Raises:
            ValueError: The value is outside the constraint.
        """
        # A learning rate may also be a schedule, a callable or a tensor.
        number = isinstance(value, (int, float, str, type(None)))
        if name in cls.constraints and (number or name != "learning_rate"):
            cls.constraints[name].check(cls.__name__, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in type(self).hyperparameters:
            value = plain(value)
        self.check_constraint(name, value)
        super().__setattr__(name, value)


def _constructor_by_hand(cls: type) -> Callable[..., None]:
    """Returns the nearest inherited constructor that was not made here."""
    written = [vars(base).get("__init__") for base in cls.__mro__[1:]]
    return next(init for init in written if init and not hasattr(init, DECLARED))


def _constructor(
    cls: type[Declared], by_hand: Callable[..., None]
) -> Callable[..., None]:
    parameters = sorted(
        (h.parameter(name) for name, h in cls.hyperparameters.items()),
        key=lambda parameter: parameter.kind,
    )
    signature = inspect.Signature(parameters)

    def __init__(self: Declared, *args: Any, **kwargs: Any) -> None:
        for name in kwargs:
            if name not in signature.parameters:
                self.refuse_argument(name)
        try:
            arguments = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{type(self).__name__}: {error}") from None
        arguments.apply_defaults()
        by_hand(self, **arguments.arguments)

    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    setattr(__init__, DECLARED, signature)
    with_self = signature.replace(parameters=[itself, *parameters])
    setattr(__init__, "__signature__", with_self)  # noqa: B010
    return __init__


def _signature(cls: type[Declared]) -> inspect.Signature:
    """Returns the constructor's signature, with the options that it passes on."""
    init: Any = vars(cls).get("__init__", _constructor_by_hand(cls))
    if hasattr(init, DECLARED):
        return getattr(init, DECLARED)
    passed_on = {n: h.parameter(n) for n, h in cls.hyperparameters.items()}
    own = {
        name: parameter
        for name, parameter in inspect.signature(init).parameters.items()
        if name != "self"
        and parameter.kind
        not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    }
    parameters = [*own.values(), *(p for n, p in passed_on.items() if n not in own)]
    by_name = inspect.Parameter.KEYWORD_ONLY
    return inspect.Signature(
        [
            p if n < len(own) else p.replace(kind=by_name)
            for n, p in enumerate(parameters)
        ]
    )


def documented(cls: type[Declared], with_options: bool = False) -> str:
    """Returns a docstring with a section `Args:` made of the declarations.

    Args:
        cls: The class; its own docstring has no such section.
        with_options: Whether to describe the arguments by name only, too.
    """
    doc = inspect.cleandoc(cls.__doc__ or "")
    described = [
        declared.documentation(name)
        for name, declared in cls.hyperparameters.items()
        if declared.doc and (with_options or not declared.kw_only)
    ]
    if not with_options and any(h.kw_only for h in cls.hyperparameters.values()):
        described.append("**options: The base options; see `AdaptiveOptimizer`.")
    section = "Args:\n" + textwrap.indent("\n".join(described), "    ") + "\n\n"
    found = SECTIONS.search(doc)
    place = found.start() if found else len(doc)
    return f"{doc[:place].rstrip()}\n\n{section}{doc[place:]}".rstrip() + "\n"
