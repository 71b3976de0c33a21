"""Any file in LIBSVM (svmlight) format."""

import math
from pathlib import Path

import numpy as np

from keras_adaptive.study.datasets.dataset import (
    Dataset,
    Split,
    encode_labels,
    encode_test_labels,
    three_parts,
)
from keras_adaptive.study.datasets.files import (
    UNREADABLE,
    existing_file,
    open_binary,
    read_lines,
)
from keras_adaptive.study.errors import StudyError, needs_extra

with needs_extra("study"):
    from sklearn.datasets import load_svmlight_files
    from sklearn.preprocessing import normalize


def line_fault(line: bytes) -> str | None:
    """Says what is wrong with a line of a LIBSVM file.

    Args:
        line: A line such as `b"+1 3:0.5 7:1"`.

    Returns:
        The fault in words, or `None` for a good line, a comment or an empty line.
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
    if not value.is_integer():
        return f"the label {shown!r} is not a whole number, so it names no class"
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


def first_fault(path: Path) -> str:
    """Finds the first bad line of a LIBSVM file.

    Args:
        path: Path of the file.

    Returns:
        Number and fault of that line, or words that say there is none.
    """
    for number, line in enumerate(read_lines(path), start=1):
        if fault := line_fault(line):
            return f"line {number}: {fault}"
    return "no line with 'label index:value …' was found"


def read_svmlight(paths: list[Path]) -> list[Split]:
    """Reads LIBSVM files that share their features.

    Args:
        paths: Paths of the files.

    Returns:
        The rows of each file, with the labels as they stand there.

    Raises:
        StudyError: If a file is damaged, malformed or without rows; the message names
            the line.
    """
    files = [open_binary(path) for path in paths]
    try:
        loaded = load_svmlight_files(files, dtype=np.float32)
    except (ValueError, OverflowError, *UNREADABLE) as error:
        faults = [f"{path}, {first_fault(path)}" for path in paths]
        raise StudyError(
            "; ".join(faults) + f" ({error}). Expected lines of the form 'label "
            "index:value index:value …' with rising indices."
        ) from error
    finally:
        for file in files:
            file.close()
    splits = [Split(*pair) for pair in zip(loaded[::2], loaded[1::2], strict=True)]
    for path, (x, y) in zip(paths, splits, strict=True):
        whole = np.isfinite(y).all() and (y == np.floor(y)).all()
        if len(y) == 0 or not whole or not np.isfinite(x.data).all():
            raise StudyError(
                f"{path}, {first_fault(path)}. Expected lines of the form 'label "
                "index:value index:value …' with whole labels and finite values."
            )
    return splits


def load_svmlight(
    path: str | Path, test_path: str | Path | None = None, seed: int = 0
) -> Dataset:
    """Loads a LIBSVM file, plain or compressed, with rows scaled to unit length.

    Args:
        path: The file to train on.
        test_path: The file to test on. Without it a tenth of the rows is held out.
        seed: Seed of the split.

    Returns:
        The dataset; a tenth of the rows is the validation part.

    Raises:
        StudyError: If a file cannot be used.
    """
    paths = [existing_file(path)] + ([existing_file(test_path)] if test_path else [])
    splits = read_svmlight(paths)
    source = str(paths[0])
    raw = [split.y.astype(np.int64) for split in splits]
    classes, labels = encode_labels(raw[0], source)
    test = None
    if test_path:
        test_labels = encode_test_labels(raw[1], raw[0], f"{source} ({paths[1]})")
        test = Split(normalize(splits[1].x), test_labels)
    rows = Split(normalize(splits[0].x), labels)
    return Dataset(
        f"svmlight:{paths[0].name}",
        source,
        *three_parts(rows, test, "classification", seed),
        classes=classes,
    )
