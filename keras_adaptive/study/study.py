"""A study: contenders on workloads by a protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from keras_adaptive.study.contender import Contender
from keras_adaptive.study.errors import StudyError
from keras_adaptive.study.protocol import Protocol
from keras_adaptive.study.workload import Workload


@dataclass(frozen=True)
class Study:
    """A fair comparison of optimizers.

    Args:
        name: Its name, and that of its MLflow experiment.
        workloads: What is learned.
        contenders: Who is compared: contenders, or what a `Contender` is made from.
        protocol: How they are tuned and judged.
        spool: Folder for runs that MLflow does not take, until it does.

    Raises:
        StudyError: If two workloads or two contenders have one name, if there are
            none, or if the reference does not take part.
    """

    name: str
    workloads: Sequence[Workload]
    contenders: Sequence[Contender | str]
    protocol: Protocol = field(default_factory=Protocol)
    spool: Path = Path("mlflow-spool")

    def __post_init__(self) -> None:
        contenders = [
            each if isinstance(each, Contender) else Contender(each)
            for each in self.contenders
        ]
        reference = self.protocol.reference
        if isinstance(reference, Contender):
            if reference not in contenders:
                contenders.insert(0, reference)
        elif reference not in (each.label for each in contenders):
            raise StudyError(
                f"The reference {reference!r} is none of the contenders: "
                f"{', '.join(each.label for each in contenders)}."
            )
        _distinct("workloads", [each.name for each in self.workloads])
        _distinct("contenders", [each.label for each in contenders])
        object.__setattr__(self, "workloads", tuple(self.workloads))
        object.__setattr__(self, "contenders", tuple(contenders))

    @property
    def reference(self) -> str:
        """Label of the contender that the others are compared with."""
        reference = self.protocol.reference
        return reference.label if isinstance(reference, Contender) else reference


def _distinct(what: str, names: Sequence[str]) -> None:
    if not names:
        raise StudyError(f"The study has no {what}. Expected at least one.")
    for name in names:
        if names.count(name) > 1:
            raise StudyError(
                f"Two {what} of the study are called {name!r}. Give them different "
                "names; a contender's is its label."
            )
