"""The fields of a column of a text file as numbers or as categories.

A field is text. These rules turn a column of fields into values without loss:

- An empty field and one of `MISSING` is a missing value. In a column of numbers one of
  `MISSING_NUMBERS` is missing, too; in other columns such a word is a category.
- Whole numbers stay whole, so that an id keeps all its digits.
- A column in which a few fields are no numbers is an error, since both readings of it
  could be wrong.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Literal

import numpy as np

from keras_adaptive.errors import InputError, needs_extra

with needs_extra("study"):
    import pandas as pd

MISSING = ("nan", "NaN", "NAN", "NA", "<NA>", "?")
"""Fields that mean a missing value in every column, besides empty ones."""

MISSING_NUMBERS = (
    "n/a",
    "nan",
    "na",
    "<na>",
    "null",
    "none",
    "#n/a",
    "#na",
    "-nan",
    "?",
)
"""Fields that mean a missing value in a column of numbers, in lower or upper case."""

MOSTLY = 0.9
"""A column with this share of numbers is meant to hold numbers."""

Kind = Literal["number", "category", "words", "text"]
"""The use of a column: a number; a category, whose whole numbers stay numbers; words,
which stay as they are; or text, in which nothing is missing."""


@dataclass(frozen=True)
class Fields:
    """The fields of a column as a file has them.

    Args:
        source: The file, in words.
        name: Name of the column.
        values: The fields as text.
        lines: The number of the line of each field.
    """

    source: str
    name: str
    values: pd.Series
    lines: array[int]

    def read(self, kind: Kind | None) -> tuple[pd.Series, str]:
        """Returns the values of the column.

        Args:
            kind: The use of the column; `None` to guess whether it holds numbers.

        Returns:
            The values, and a remark on fields that are read as missing numbers, which
            is empty if there are none.

        Raises:
            InputError: If a column of numbers has a field that is none; the message
                names the line.
        """
        if kind == "text":
            return self.values, ""
        stripped = self.values.str.strip()
        blank = stripped == ""
        if kind == "words":
            return self._words(blank), ""
        missing = blank | stripped.str.lower().isin(MISSING_NUMBERS)
        if kind == "category":
            return self._categories(stripped, blank, missing)
        numbers = pd.to_numeric(stripped.mask(missing), errors="coerce")
        strange = numbers.isna() & ~missing
        present = len(stripped) - missing.sum()
        numeric = present - strange.sum()
        if kind is None and (numeric < MOSTLY * present or not numeric):
            return self._words(blank), ""
        if strange.any():
            raise self._no_number(strange)
        whole = as_whole(stripped, missing)
        values = numbers.astype(np.float64) if whole is None else whole
        return values, self._remark(missing & ~blank)

    def _words(self, blank: pd.Series) -> pd.Series:
        """Returns the fields as they are, without those that mean a missing value."""
        return self.values.mask(blank | self.values.isin(MISSING))

    def _categories(
        self, stripped: pd.Series, blank: pd.Series, missing: pd.Series
    ) -> tuple[pd.Series, str]:
        """Returns whole numbers if all fields are some and none begins with a zero."""
        if not stripped[~missing].str.match(r"[+-]?0\d").any():
            whole = as_whole(stripped, missing)
            if whole is not None:
                return whole, self._remark(missing & ~blank)
        return self._words(blank), ""

    def _no_number(self, strange: pd.Series) -> InputError:
        row = int(np.flatnonzero(strange)[0])
        count = int(strange.sum())
        others = f" and {count - 1} other rows do" if count > 1 else " does"
        return InputError(
            f"{self.source}, line {self.lines[row]}: the column {self.name!r} holds "
            f"numbers, but {self.values.iloc[row]!r}{others} not look like one. "
            "Correct the field, or leave it empty where the number is missing. If the "
            "column stands for categories, name it as one (--category); if it holds "
            "the classes to predict, give the task classification (--task)."
        )

    def _remark(self, markers: pd.Series) -> str:
        """Returns a remark on fields with words that mean a missing number."""
        if not markers.any():
            return ""
        words = ", ".join(map(repr, self.values[markers].unique()[:3]))
        return f"{int(markers.sum())} in {self.name!r} ({words})"


def as_whole(fields: pd.Series, missing: pd.Series) -> pd.Series | None:
    """Returns whole numbers with all their digits.

    Args:
        fields: Fields as text.
        missing: True for each field without a number.

    Returns:
        Numbers of int64, of pandas's Int64 if some are missing; `None` if a field is
        not a whole number, or has too many digits for 64 bits.

    Example:

    >>> fields = pd.Series(["1234567890123456789", "", "7.0"])
    >>> as_whole(fields, fields == "").tolist()
    [1234567890123456789, <NA>, 7]
    """
    present = fields[~missing].str.replace(r"\.0*$", "", regex=True)
    if present.empty or not present.str.fullmatch(r"[+-]?\d+").all():
        return None
    try:
        whole = pd.Series(present.to_numpy(object).astype(np.int64), present.index)
    except OverflowError:
        return None
    if len(whole) == len(fields):
        return whole
    return whole.astype("Int64").reindex(fields.index)
