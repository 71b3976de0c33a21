"""The options of a command line that choose its data, by a word or by a file."""

import argparse
from collections.abc import Callable
from pathlib import Path

from keras_adaptive import datasets
from keras_adaptive.datasets.dataset import Dataset
from keras_adaptive.datasets.files import OPENERS
from keras_adaptive.datasets.text import MAX_WORDS
from keras_adaptive.errors import InputError, did_you_mean

OFFLINE: dict[str, Callable[[argparse.Namespace], Dataset]] = {
    "digits": lambda options: datasets.load_digits(),
    "wine": lambda options: datasets.load_wine(),
    "breast_cancer": lambda options: datasets.load_breast_cancer(),
    "diabetes": lambda options: datasets.load_diabetes(),
    "rare_categories": lambda options: datasets.RareCategories().load(),
    "docstrings": lambda options: datasets.load_docstrings(
        words(options), datasets.DocstringOptions(masked=not options.unmasked)
    ),
}
"""Data that need neither a network nor files: six, the fewest over which a promise can
be decided."""

DOWNLOADED: dict[str, Callable[[argparse.Namespace], Dataset]] = {
    "newsgroups": lambda options: datasets.load_newsgroups(
        words(options), options.data_home, options.headers is not False
    ),
    "adult": lambda options: datasets.load_adult(options.data_home),
    "covertype": lambda options: datasets.load_covertype(options.data_home),
    "california_housing": lambda options: datasets.load_california_housing(
        options.data_home
    ),
    "fashion_mnist": lambda options: datasets.load_fashion_mnist(options.data_home),
}
"""Real data that lie in `--data-home` or are downloaded."""

NAMED = OFFLINE | DOWNLOADED
SUFFIXES = {
    ".csv": "csv",
    ".parquet": "parquet",
    ".libsvm": "svmlight",
    ".svm": "svmlight",
    ".svmlight": "svmlight",
}
"""The kind of a file by the end of its name, before that of a compression."""

OF_TABLES = frozenset({"target", "task", "category", "test_file"})
APPLICABLE: dict[str, frozenset[str]] = {
    **dict.fromkeys(OFFLINE, frozenset()),
    **dict.fromkeys([*DOWNLOADED, "openml"], frozenset({"data_home"})),
    "docstrings": frozenset({"max_words", "unmasked"}),
    "newsgroups": frozenset({"data_home", "max_words", "headers"}),
    "csv": OF_TABLES,
    "csv with --text-column": frozenset(
        {"target", "test_file", "text_column", "max_words"}
    ),
    "parquet": OF_TABLES,
    "svmlight": frozenset({"task", "test_file"}),
}
"""The options that apply to a kind of data. Any other option is an error."""

KINDS = ("openml:NAME", "csv:FILE", "parquet:FILE", "svmlight:FILE")
SOURCES = (
    f"{', '.join([*NAMED, *KINDS])}, or a file whose name ends in {', '.join(SUFFIXES)}"
)


def add_data_options(parser: argparse.ArgumentParser, *default: str) -> None:
    """Adds the options that choose the data, for `load_all` and `load_one`.

    Args:
        parser: The parser of the command line.
        default: The sources to use if the command line names none. Without them it has
            to name one.
    """
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data",
        nargs="+",
        default=list(default),
        required=not default,
        metavar="SOURCE",
        help=f"one or more of {SOURCES}"
        + (f" (default: {', '.join(default)})" if default else ""),
    )
    group.add_argument(
        "--data-home",
        type=Path,
        metavar="DIR",
        help=f"folder with the files or the cache of {', '.join(DOWNLOADED)}, openml",
    )
    group.add_argument(
        "--target", metavar="COLUMN", help="csv, parquet: the column to predict"
    )
    group.add_argument(
        "--task",
        choices=("classification", "regression"),
        help="csv, parquet: the task (default: guessed from the target); svmlight: "
        "default classification",
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
        "--text-column", metavar="COLUMN", help="csv: the column of texts to learn from"
    )
    group.add_argument(
        "--max-words",
        type=int,
        metavar="N",
        help="texts: number of the most frequent words that become features "
        f"(default: {MAX_WORDS})",
    )
    group.add_argument(
        "--unmasked",
        action="store_true",
        help="docstrings: leave the names of the libraries in the text",
    )
    group.add_argument(
        "--headers",
        action=argparse.BooleanOptionalAction,
        help="newsgroups: keep headers, footers and quotes (default: keep)",
    )


def load_all(options: argparse.Namespace) -> list[Dataset]:
    """Loads the data that the options of `add_data_options` choose.

    Args:
        options: The parsed command line.

    Returns:
        The datasets, in the order in which the command line names them.

    Raises:
        InputError: If data cannot be used, or if an option applies to none of them; the
            message says what to do.
    """
    if words(options) < 1:
        raise InputError(f"--max-words must be at least 1, not {options.max_words}.")
    check_applicable(options)
    return [_load(source, options) for source in options.data]


def load_one(options: argparse.Namespace) -> Dataset:
    """Loads the one dataset that the options of `add_data_options` choose.

    Args:
        options: The parsed command line.

    Returns:
        The dataset.

    Raises:
        InputError: If several are named, or the data cannot be used.
    """
    if len(options.data) > 1:
        raise InputError(
            f"--data names {len(options.data)} sources: {', '.join(options.data)}. "
            "Expected one."
        )
    return load_all(options)[0]


def words(options: argparse.Namespace) -> int:
    """Returns the number of words that become features."""
    return MAX_WORDS if options.max_words is None else int(options.max_words)


def check_applicable(options: argparse.Namespace) -> None:
    """Checks that each option of the command line applies to some of its data.

    Args:
        options: The parsed command line.

    Raises:
        InputError: If an option applies to none of the data, or if there is no such
            data source.
    """
    kinds = [kind_of(source, options) for source in options.data]
    applicable = frozenset[str]().union(*(APPLICABLE[kind] for kind in kinds))
    for option in sorted(frozenset[str]().union(*APPLICABLE.values()) - applicable):
        if getattr(options, option) not in (None, False, []) or (
            option == "headers" and options.headers is not None
        ):
            takers = [kind for kind, taken in APPLICABLE.items() if option in taken]
            raise InputError(
                f"--{option.replace('_', '-')} does not apply to "
                f"{', '.join(map(str, options.data))}, which is of the kind "
                f"{', '.join(dict.fromkeys(kinds))}. It applies to "
                f"{', '.join(takers)}. Leave it out."
            )


def kind_of(source: str, options: argparse.Namespace) -> str:
    """Returns the kind of a data source, a key of `APPLICABLE`.

    Args:
        source: The source as the command line names it.
        options: The parsed command line.

    Raises:
        InputError: If there is no such source.
    """
    if source in NAMED:
        return source
    kind, _ = kind_and_name(source)
    if kind == "csv" and options.text_column:
        return "csv with --text-column"
    return kind


def kind_and_name(source: str) -> tuple[str, str]:
    """Splits a source such as `csv:my.csv` or `my.csv` into its kind and its name.

    Raises:
        InputError: If there is no such kind.
    """
    kind, colon, name = source.partition(":")
    if not colon:
        kind, name = kind_of_file(source), source
    if kind not in (known.partition(":")[0] for known in KINDS):
        raise InputError(
            f"There is no data source {source!r}. Expected one of {SOURCES}."
            + did_you_mean(source, NAMED)
        )
    return kind, name


def _load(source: str, options: argparse.Namespace) -> Dataset:
    if source in NAMED:
        return NAMED[source](options)
    kind, name = kind_and_name(source)
    if not name:
        raise InputError(
            f"--data {source} names nothing. Expected for example {kind}:"
            + ("adult" if kind == "openml" else f"data/my.{kind}")
        )
    if kind == "openml":
        return datasets.load_openml(name, options.data_home)
    if kind == "svmlight":
        return datasets.load_svmlight(
            name, options.test_file, task=options.task or "classification"
        )
    if not options.target:
        raise InputError(
            f"--data {source} needs --target, the name of the column to predict."
        )
    if not options.text_column:
        return datasets.load_table(
            kind,
            name,
            options.target,
            test_path=options.test_file,
            task=options.task,
            categories=options.category,
        )
    return datasets.load_csv_texts(
        name,
        options.text_column,
        options.target,
        words(options),
        test_path=options.test_file,
    )


def kind_of_file(name: str) -> str:
    """Returns the kind of a file by the end of its name; empty if it is unknown."""
    path = Path(name)
    if path.suffix.lower() in OPENERS:
        path = path.with_suffix("")
    return SUFFIXES.get(path.suffix.lower(), "")
