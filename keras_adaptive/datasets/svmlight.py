"""Files in the LIBSVM (svmlight) format."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from keras_adaptive.datasets.dataset import (
    Dataset,
    Split,
    Task,
    encode_labels,
    encode_test_labels,
)
from keras_adaptive.datasets.files import (
    UNREADABLE,
    existing_file,
    open_binary,
    read_lines,
)
from keras_adaptive.datasets.splitting import three_parts
from keras_adaptive.errors import InputError, needs_extra

with needs_extra("study"):
    from sklearn.datasets import load_svmlight_files
    from sklearn.preprocessing import normalize


def line_fault(line: bytes, task: Task) -> str | None:
    """Returns what is wrong with a line of a LIBSVM file.

    Args:
        line: A line such as `b"+1 3:0.5 7:1"`.
        task: The task that the label belongs to.

    Returns:
        The fault in words; `None` for a valid line, a comment or an empty line.
    """
    fields = line.split(b"#", 1)[0].split()
    if not fields:
        return None
    label, *pairs = fields
    shown = label.decode("utf-8", "replace")[:40]
    try:
        value = float(label)
    except ValueError:
        return f"the label {shown!r} is not a number"
    if not math.isfinite(value):
        return f"the label {shown!r} is not a finite number"
    if task == "classification" and not value.is_integer():
        return f"the label {shown!r} is not a whole number, so it is not a class"
    previous = -1
    for pair in pairs:
        shown = pair.decode("utf-8", "replace")[:40]
        index, colon, number = pair.partition(b":")
        if index == b"qid":
            continue
        try:
            position, amount = int(index), float(number)
        except ValueError:
            return f"{shown!r} is not of the form index:value"
        if not colon or not math.isfinite(amount):
            return f"the value in {shown!r} is not a finite number"
        if position < 0:
            return f"the index in {shown!r} is negative"
        if position <= previous:
            return f"the index in {shown!r} is not above the one before it"
        previous = position
    return None


def first_fault(path: Path, task: Task) -> str:
    """Finds the first malformed line of a LIBSVM file.

    Args:
        path: Path of the file.
        task: The task that the labels belong to.

    Returns:
        The number of the line and its fault, or a sentence that no line was found.
    """
    for number, line in enumerate(read_lines(path), start=1):
        if fault := line_fault(line, task):
            return f"line {number}: {fault}"
    return "no line with 'label index:value …' was found"


def read_svmlight(paths: list[Path], task: Task = "classification") -> list[Split]:
    """Reads LIBSVM files that share their features.

    Args:
        paths: Paths of the files.
        task: The task that the labels belong to; classes are whole numbers.

    Returns:
        The rows of each file, with the labels of the file.

    Raises:
        InputError: If a file is damaged, malformed or has no rows; the message names
            the line.
    """
    files = [open_binary(path) for path in paths]
    try:
        loaded = load_svmlight_files(files, dtype=np.float32)
    except (ValueError, OverflowError, *UNREADABLE) as error:
        faults = [f"{path}, {first_fault(path, task)}" for path in paths]
        raise InputError(
            "; ".join(faults) + f" ({error}). Expected lines of the form 'label "
            "index:value index:value …' with rising indices."
        ) from error
    finally:
        for file in files:
            file.close()
    splits = [Split(*pair) for pair in zip(loaded[::2], loaded[1::2], strict=True)]
    for path, (features, y) in zip(paths, splits, strict=True):
        x: Any = features
        finite = np.isfinite(y).all() and np.isfinite(x.data).all()
        classes = task == "regression" or (y == np.floor(y)).all()
        if len(y) == 0 or not finite or not classes:
            raise InputError(
                f"{path}, {first_fault(path, task)}. Expected lines of the form 'label "
                "index:value index:value …' with finite values, and with whole labels "
                "unless the task is regression."
            )
    return splits


def load_svmlight(
    path: str | Path,
    test_path: str | Path | None = None,
    task: Task = "classification",
    seed: int = 0,
) -> Dataset:
    """Loads a LIBSVM file, plain or compressed, with rows scaled to unit length.

    Args:
        path: The file to train on.
        test_path: The file to test on; `None` to hold out a tenth of the rows.
        task: `"classification"` or `"regression"`.
        seed: Seed of the split.

    Returns:
        The dataset; a tenth of the rows is the validation part.

    Raises:
        InputError: If a file cannot be used.
    """
    paths = [existing_file(path)] + ([existing_file(test_path)] if test_path else [])
    splits = read_svmlight(paths, task)
    source = str(paths[0])
    labels = [split.y for split in splits]
    classes: tuple[str, ...] = ()
    if task == "classification":
        raw = labels[0].astype(np.int64)
        classes, labels[0] = encode_labels(raw, source)
        labels[1:] = [
            encode_test_labels(each.astype(np.int64), raw, f"{source} ({path})")
            for path, each in zip(paths[1:], labels[1:], strict=True)
        ]
    rows, *tested = (
        Split(normalize(split.x), y) for split, y in zip(splits, labels, strict=True)
    )
    return Dataset(
        f"svmlight:{paths[0].name}",
        source,
        *three_parts(rows, tested[0] if tested else None, task, seed),
        task=task,
        classes=classes,
    )
