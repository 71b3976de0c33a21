"""Writes the tables of `catalogue.md` from the classes and their docstrings.

    python docs/make_catalogue.py
    python docs/make_catalogue.py --check

The memory comes from the state of a built optimizer, the sparse modes from trying each
of them. The rest comes from the docstring: the summary, the paragraph `When to use:`
and the references.
"""

import inspect
import re
import sys
from pathlib import Path

import keras
import numpy as np

from keras_adaptive import optimizers

PAGE = Path(__file__).parent / "catalogue.md"
SIDE = 256

FAMILIES = {
    "Plain and classic": "SGD Adagrad RMSprop Adadelta Adam AdamW Adamax Nadam Ftrl",
    "Element-wise, modern": "RAdam AdaBelief Yogi LaProp ADOPT AdEMAMix Lion Adan MARS "
    "Grams AdaBound",
    "Layer-wise": "Lamb LARS NovoGrad",
    "Memory-saving": "Adafactor CAME",
    "Schedule-free": "ScheduleFreeSGD ScheduleFreeAdamW ScheduleFreeRAdam",
    "Learning-rate-free": "DoG LDoG DoWG Prodigy DAdaptAdam DAdaptSGD DAdaptAdaGrad "
    "COCOB",
    "Matrix preconditioned": "Muon SOAP Shampoo",
    "Around another optimizer": "Lookahead SAM ASAM Mechanic",
}
OF_THE_OTHERS = "Element-wise, modern"
ROOMS = ("keras_adaptive.optimizers.catalogue", "keras_adaptive.optimizers.wrappers")

BEGIN, END = "<!-- catalogue -->\n", "<!-- /catalogue -->"


def families() -> dict[str, list[str]]:
    """The names of all exported optimizers, by family."""
    found = {family: names.split() for family, names in FAMILIES.items()}
    named = {name for names in found.values() for name in names}
    found[OF_THE_OTHERS] += [
        name
        for name in optimizers.__all__
        if name not in named
        and inspect.isclass(getattr(optimizers, name))
        and getattr(optimizers, name).__module__.startswith(ROOMS)
    ]
    return found


def make(name: str) -> keras.optimizers.Optimizer:
    """Makes an optimizer at its defaults; a wrapper gets SGD to wrap."""
    cls = getattr(optimizers, name)
    if "optimizer" in inspect.signature(cls).parameters:
        return cls(optimizers.SGD(0.01))
    return cls()


def docstring(name: str) -> str:
    """Returns the docstring of an optimizer.

    Raises:
        ValueError: If it has none.
    """
    text = inspect.getdoc(getattr(optimizers, name))
    if text is None:
        raise ValueError(f"{name} has no docstring.")
    return text


def state_a_parameter(name: str) -> str:
    """Returns the numbers that an optimizer keeps for each parameter."""
    optimizer = make(name)
    kernel = keras.Variable(np.zeros((SIDE, SIDE)), dtype="float32", name="kernel")
    optimizer.build([kernel])
    numbers = sum(np.prod(v.shape) for v in optimizer.variables) / SIDE**2
    return f"{numbers:.1f}".removesuffix(".0")


def sparse_modes(name: str) -> str:
    """Returns the sparse modes that an optimizer accepts, the default first."""
    cls = getattr(optimizers, name)
    if "sparse" not in inspect.signature(cls).parameters:
        return "the inner one's"
    default = cls().sparse
    modes = [default]
    for mode in ("deferred", "lazy", "dense"):
        try:
            cls(sparse=mode)
        except ValueError:
            continue
        modes += [mode] if mode != default else []
    return ", ".join(modes)


def paragraph(name: str, heading: str) -> str:
    """Returns a paragraph of a docstring as one line.

    Raises:
        ValueError: If the docstring has no such paragraph.
    """
    pattern = rf"^{heading}:\s(.*?)(?:\n\n|\Z)"
    found = re.search(pattern, docstring(name), re.DOTALL | re.MULTILINE)
    if found is None:
        raise ValueError(f"The docstring of {name} has no paragraph '{heading}:'.")
    return " ".join(found[1].split())


def references(name: str) -> str:
    """Returns the references of an optimizer as links."""
    text = docstring(name).partition("References:")[2]
    links = re.findall(r"\[([^\]]+)\]\(\s*([^)\s]+)\s*\)", text)
    return ", ".join(f"[{title}]({address})" for title, address in links)


def summary(name: str) -> str:
    """Returns the first paragraph of a docstring."""
    return docstring(name).partition("\n\n")[0]


def tables() -> str:
    """Returns the tables and notes of all families."""
    parts = []
    for family, names in families().items():
        lines = ["| class | state | sparse | paper |", "|---|---|---|---|"]
        notes = []
        for name in names:
            lines.append(
                f"| `{name}` | {state_a_parameter(name)} | {sparse_modes(name)} "
                f"| {references(name)} |"
            )
            text = " ".join(summary(name).split())
            use = paragraph(name, "When to use")
            notes.append(f"- **`{name}`**: {text} *When to use*: {use}")
        parts.append("\n".join([f"## {family}", "", *lines, "", *notes, ""]))
    return "\n".join(parts)


def main() -> int:
    """Writes the page, or returns 1 if `--check` finds it out of date."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    page = f"{before}{BEGIN}\n{tables()}\n{END}{rest.split(END)[1]}"
    if "--check" in sys.argv[1:]:
        return int(page != text)
    PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
