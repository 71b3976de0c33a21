"""Labelled sparse data for studies, chosen by a word or a file on the command line."""

import argparse
import difflib
from pathlib import Path

from keras_adaptive.study.datasets.csv_files import load_csv
from keras_adaptive.study.datasets.dataset import SparseDataset, Split
from keras_adaptive.study.datasets.docstrings import DocstringOptions, load_docstrings
from keras_adaptive.study.datasets.newsgroups import load_newsgroups
from keras_adaptive.study.datasets.svmlight import load_svmlight
from keras_adaptive.study.datasets.text import MAX_WORDS
from keras_adaptive.study.errors import StudyError

__all__ = ["SparseDataset", "Split", "add_arguments", "load"]

SOURCES = ("docstrings", "newsgroups", "svmlight:FILE", "csv:FILE")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that choose the data to a command line.

    Args:
        parser: The parser of the command line.
    """
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data",
        default="docstrings",
        metavar="SOURCE",
        help=f"one of {', '.join(SOURCES)} (default: %(default)s)",
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
        "--data-home",
        type=Path,
        metavar="DIR",
        help="newsgroups: folder with scikit-learn's cache",
    )
    group.add_argument(
        "--headers",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="newsgroups: keep headers, footers and quotes (default: keep)",
    )
    group.add_argument(
        "--test-file",
        type=Path,
        metavar="FILE",
        help="svmlight: the file to test on (default: hold out a tenth of the rows)",
    )
    group.add_argument("--text-column", metavar="NAME", help="csv: column of the texts")
    group.add_argument(
        "--label-column", metavar="NAME", help="csv: column of the labels"
    )


def load(options: argparse.Namespace) -> SparseDataset:
    """Loads the data that the options of `add_arguments` choose.

    Args:
        options: The parsed command line.

    Returns:
        The dataset.

    Raises:
        StudyError: If the data cannot be used; the message says what to do.
    """
    kind, _, file = options.data.partition(":")
    if options.max_words < 1:
        raise StudyError(f"--max-words must be at least 1, not {options.max_words}.")
    if options.data == "docstrings":
        return load_docstrings(
            options.max_words, DocstringOptions(masked=not options.unmasked)
        )
    if options.data == "newsgroups":
        return load_newsgroups(options.max_words, options.data_home, options.headers)
    if kind in ("svmlight", "csv") and not file:
        raise StudyError(
            f"--data {options.data} names no file. Expected {kind}:FILE, for example "
            f"{kind}:data/my.{kind}."
        )
    if kind == "svmlight":
        return load_svmlight(file, options.test_file)
    if kind == "csv":
        if not (options.text_column and options.label_column):
            raise StudyError(
                "A CSV file needs --text-column and --label-column, the names of the "
                "columns with the texts and with the labels."
            )
        return load_csv(
            file, options.text_column, options.label_column, options.max_words
        )
    names = [source.partition(":")[0] for source in SOURCES]
    near = difflib.get_close_matches(kind, names, n=1)
    raise StudyError(
        f"There is no data source {options.data!r}. Expected one of "
        f"{', '.join(SOURCES)}." + (f" Did you mean {near[0]!r}?" if near else "")
    )
