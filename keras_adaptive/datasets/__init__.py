"""Labelled data for studies, chosen by a word or a file on the command line."""

import argparse
from collections.abc import Callable
from pathlib import Path

from keras_adaptive.datasets import bundled, fetched, images
from keras_adaptive.datasets.csv_files import load_csv_texts, load_table
from keras_adaptive.datasets.dataset import Dataset, Split
from keras_adaptive.datasets.docstrings import DocstringOptions, load_docstrings
from keras_adaptive.datasets.files import OPENERS
from keras_adaptive.datasets.newsgroups import load_newsgroups
from keras_adaptive.datasets.svmlight import load_svmlight
from keras_adaptive.datasets.synthetic import RareCategories
from keras_adaptive.datasets.text import MAX_WORDS
from keras_adaptive.errors import StudyError, did_you_mean

__all__ = ["Dataset", "Split", "add_arguments", "load", "load_all"]

OFFLINE: dict[str, Callable[[argparse.Namespace], Dataset]] = {
    "digits": lambda options: bundled.load_digits(),
    "wine": lambda options: bundled.load_wine(),
    "breast_cancer": lambda options: bundled.load_breast_cancer(),
    "diabetes": lambda options: bundled.load_diabetes(),
    "docstrings": lambda options: load_docstrings(
        options.max_words, DocstringOptions(masked=not options.unmasked)
    ),
    "rare_categories": lambda options: RareCategories().load(),
}
"""Data that need neither a network nor files."""

BY_NAME: dict[str, Callable[[argparse.Namespace], Dataset]] = {
    "newsgroups": lambda options: load_newsgroups(
        options.max_words, options.data_home, options.headers
    ),
    "adult": lambda options: fetched.load_adult(options.data_home),
    "covertype": lambda options: fetched.load_covertype(options.data_home),
    "california_housing": lambda options: fetched.load_california_housing(
        options.data_home
    ),
    "fashion_mnist": lambda options: images.load_fashion_mnist(options.data_home),
}
"""Real data that lie in `--data-home` or are downloaded."""

NAMED = OFFLINE | BY_NAME
SUFFIXES = {
    ".csv": "csv",
    ".parquet": "parquet",
    ".libsvm": "svmlight",
    ".svm": "svmlight",
    ".svmlight": "svmlight",
}
"""The kind of a file by the end of its name, before that of a compression."""

KINDS = ("openml:NAME", "csv:FILE", "parquet:FILE", "svmlight:FILE")


def add_arguments(parser: argparse.ArgumentParser, *default: str) -> None:
    """Adds the options that choose the data to a command line.

    Args:
        parser: The parser of the command line.
        default: The sources that are used if none is named; without them one must be.
    """
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data",
        nargs="+",
        default=list(default),
        required=not default,
        metavar="SOURCE",
        help=f"one or more of {', '.join([*NAMED, *KINDS])}, or a file whose name ends "
        f"in {', '.join(SUFFIXES)}"
        + (f" (default: {', '.join(default)})" if default else ""),
    )
    group.add_argument(
        "--data-home",
        type=Path,
        metavar="DIR",
        help=f"folder with the files or the cache of {', '.join(BY_NAME)}, openml",
    )
    group.add_argument("--target", metavar="COLUMN", help="csv, parquet: what to learn")
    group.add_argument(
        "--task",
        choices=("classification", "regression"),
        help="csv, parquet: instead of telling it from the target; svmlight: default "
        "classification",
    )
    group.add_argument(
        "--category",
        action="append",
        default=[],
        metavar="COLUMN",
        help="csv, parquet: a column of whole numbers that stand for categories; may "
        "be repeated",
    )
    group.add_argument(
        "--test-file",
        type=Path,
        metavar="FILE",
        help="csv, parquet, svmlight: the file to test on (default: hold out a tenth "
        "of the rows)",
    )
    group.add_argument(
        "--text-column", metavar="COLUMN", help="csv: learn from the text of a column"
    )
    group.add_argument(
        "--max-words",
        type=int,
        default=MAX_WORDS,
        help="features kept of a text, the most frequent words (default: %(default)s)",
    )
    group.add_argument(
        "--unmasked",
        action="store_true",
        help="docstrings: leave the names of the libraries in the text",
    )
    group.add_argument(
        "--headers",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="newsgroups: keep headers, footers and quotes (default: keep)",
    )


def load_all(options: argparse.Namespace) -> list[Dataset]:
    """Loads the data that the options of `add_arguments` choose.

    Args:
        options: The parsed command line.

    Returns:
        The datasets, in the order in which they were named.

    Raises:
        StudyError: If data cannot be used; the message says what to do.
    """
    if options.max_words < 1:
        raise StudyError(f"--max-words must be at least 1, not {options.max_words}.")
    return [_load(source, options) for source in options.data]


def load(options: argparse.Namespace) -> Dataset:
    """Loads the one dataset that the options of `add_arguments` choose.

    Args:
        options: The parsed command line.

    Returns:
        The dataset.

    Raises:
        StudyError: If several are named, or the data cannot be used.
    """
    if len(options.data) > 1:
        raise StudyError(
            f"--data names {len(options.data)} sources: {', '.join(options.data)}. "
            "Expected one."
        )
    return load_all(options)[0]


def _load(source: str, options: argparse.Namespace) -> Dataset:
    if source in NAMED:
        return NAMED[source](options)
    kind, colon, name = source.partition(":")
    if not colon:
        kind, name = kind_of_file(source), source
    if kind not in (known.partition(":")[0] for known in KINDS):
        raise StudyError(
            f"There is no data source {source!r}. Expected one of "
            f"{', '.join([*NAMED, *KINDS])}, or a file whose name ends in "
            f"{', '.join(SUFFIXES)}.{did_you_mean(source, NAMED)}"
        )
    if not name:
        raise StudyError(
            f"--data {source} names nothing. Expected for example {kind}:"
            + ("adult" if kind == "openml" else f"data/my.{kind}")
        )
    if kind == "openml":
        return fetched.load_openml(name, options.data_home)
    if kind == "svmlight":
        return load_svmlight(
            name, options.test_file, task=options.task or "classification"
        )
    if not options.target:
        raise StudyError(
            f"--data {source} needs --target, the name of the column to learn."
        )
    if not options.text_column:
        return load_table(
            kind,
            name,
            options.target,
            test_path=options.test_file,
            task=options.task,
            categories=options.category,
        )
    if kind != "csv":
        raise StudyError("--text-column is for CSV files. Save the table as one.")
    return load_csv_texts(name, options.text_column, options.target, options.max_words)


def kind_of_file(name: str) -> str:
    """Returns the kind of a file by the end of its name; empty if it is not known."""
    path = Path(name)
    if path.suffix.lower() in OPENERS:
        path = path.with_suffix("")
    return SUFFIXES.get(path.suffix.lower(), "")
