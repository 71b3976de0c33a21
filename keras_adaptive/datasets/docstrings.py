"""Docstrings of installed libraries, labelled by library: text without a network.

The documents are read from the source files of the installed numerical libraries,
without importing them. The class of a document is its library. Two precautions keep the
answer out of the text: names of libraries are masked, and all docstrings of a module
are in the same part of the dataset.
"""

import ast
import gzip
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import sys
import tempfile
import warnings
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from keras_adaptive.datasets.dataset import Dataset, Split, encode_labels
from keras_adaptive.datasets.text import MAX_WORDS, vectorize
from keras_adaptive.errors import InputError

LIBRARIES = (
    "keras",
    "matplotlib",
    "mlflow",
    "numpy",
    "pandas",
    "scipy",
    "sklearn",
    "tensorflow",
)
FORMAT_VERSION = 1
SKIPPED_FOLDERS = frozenset(
    {"test", "tests", "testing", "_vendor", "externals", "__pycache__"}
)
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
STATEMENTS = (ast.stmt, ast.ExceptHandler)
TRIPLE_QUOTE = re.compile(rb"\"\"\"|'''")
WORD = re.compile(r"scikit[-\s]+learn|tensor\s+flow|\w+", re.IGNORECASE)
LIBRARY_NAME = re.compile(
    r"numpy|scipy|scikit|sklearn|pandas|matplotlib|pyplot|pylab|keras"
    r"|tensor\s*flow|mlflow"
    r"|(?:^|_)(?:np|sp|sk|pd|mpl|plt|tf)\d*(?:_|$)",
    re.IGNORECASE,
)
CAMEL_CASE_ALIAS = re.compile(r"^_*T[Ff][A-Z]")


@dataclass(frozen=True)
class Docstring:
    """A docstring, its library and its module."""

    library: str
    module: str
    text: str


@dataclass(frozen=True)
class DocstringOptions:
    """The choice of the docstrings.

    Args:
        libraries: Import names of the libraries; those that are not installed are
            skipped.
        min_characters: Length below which docstrings are left out.
        max_per_library: Maximum number of docstrings of a library.
        masked: Whether names and usual aliases of the libraries are removed.
        seed: Seed of the order in which the modules of a library are read and split.
    """

    libraries: tuple[str, ...] = LIBRARIES
    min_characters: int = 200
    max_per_library: int = 1_500
    masked: bool = True
    seed: int = 0


@lru_cache(maxsize=2**17)
def names_library(word: str) -> bool:
    """Says whether a word is or contains a library's name or alias."""
    return bool(LIBRARY_NAME.search(word) or CAMEL_CASE_ALIAS.search(word))


def mask_names(text: str) -> str:
    """Removes library names, their aliases and identifiers that contain them.

    Args:
        text: Any text.

    Returns:
        The text with a blank in place of each name.

    Example:

    >>> mask_names("a NumPy array, np.array or tf_function; see keras_core.ops")
    'a   array,  .array or  ; see  .ops'
    """
    return WORD.sub(lambda found: " " if names_library(found[0]) else found[0], text)


def source_root(library: str) -> Path | None:
    """Returns the folder of a library without importing it; `None` if not installed."""
    spec = importlib.util.find_spec(library)
    return Path(spec.origin).parent if spec and spec.origin else None


def installed_versions(libraries: Iterable[str]) -> dict[str, str]:
    """Returns the versions of the libraries that are installed.

    Args:
        libraries: Import names.

    Returns:
        The version of each installed library by its import name.
    """
    distributions = importlib.metadata.packages_distributions()
    return {
        library: ", ".join(
            f"{name} {importlib.metadata.version(name)}"
            for name in sorted(set(distributions.get(library, [])))
        )
        for library in libraries
        if source_root(library)
    }


def documented_nodes(node: ast.AST) -> Iterator[Documented]:
    """Yields the module, classes and functions below a node, without expressions."""
    if isinstance(node, Documented):
        yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, STATEMENTS):
            yield from documented_nodes(child)


def docstrings_of_file(path: Path, min_characters: int) -> list[str]:
    """Reads the docstrings of a Python file without running it.

    Args:
        path: Path of the source file.
        min_characters: Length below which docstrings are left out.

    Returns:
        The cleaned docstrings of the module, its classes and functions; an empty list
        if the file is not valid Python.
    """
    try:
        source = path.read_bytes()
        if len(source) < min_characters or not TRIPLE_QUOTE.search(source):
            return []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(source)
    except (SyntaxError, ValueError, OSError):
        return []
    found = (ast.get_docstring(node) for node in documented_nodes(tree))
    return [text for text in found if text and len(text) >= min_characters]


def docstrings_of_library(
    library: str, root: Path, options: DocstringOptions
) -> Iterator[Docstring]:
    """Yields the docstrings of a library, module by module in a seeded order.

    Args:
        library: Import name of the library.
        root: Folder of its source.
        options: The choice of the docstrings.

    Yields:
        The docstrings, masked if the options say so.
    """
    paths = sorted(
        path
        for path in root.rglob("*.py")
        if SKIPPED_FOLDERS.isdisjoint(path.relative_to(root).parts)
    )
    rng = np.random.default_rng([options.seed, *library.encode()])
    for at in rng.permutation(len(paths)):
        module = paths[at].relative_to(root).as_posix()
        for text in docstrings_of_file(paths[at], options.min_characters):
            kept = mask_names(text) if options.masked else text
            yield Docstring(library, module, kept)


def collect(options: DocstringOptions) -> list[Docstring]:
    """Reads the corpus from the installed libraries.

    A docstring that occurs several times in one library is kept once. A docstring that
    occurs in several libraries is dropped, since its class would be ambiguous.

    Args:
        options: The choice of the docstrings.

    Returns:
        The docstrings, grouped by library and module.

    Raises:
        InputError: If fewer than two of the libraries are installed.
    """
    roots = {name: source_root(name) for name in options.libraries}
    corpus = []
    for library, root in roots.items():
        if root is None:
            continue
        unique: dict[str, Docstring] = {}
        for document in docstrings_of_library(library, root, options):
            unique.setdefault(" ".join(document.text.split()), document)
            if len(unique) == options.max_per_library:
                break
        corpus.append(unique)
    libraries_of = Counter(key for unique in corpus for key in unique)
    documents = [
        document
        for unique in corpus
        for key, document in unique.items()
        if libraries_of[key] == 1
    ]
    if len({document.library for document in documents}) < 2:
        raise InputError(
            "The docstrings need at least two of these libraries, installed with their "
            f"source: {', '.join(options.libraries)}. Install them with "
            "pip install 'keras-adaptive[study,tensorflow]'."
        )
    return documents


def cache_folder() -> Path:
    """Returns the cache folder that is usual on this platform."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "~/AppData/Local")
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "keras-adaptive"


def cache_path(options: DocstringOptions, folder: Path) -> Path:
    """Returns the path of the cache file for the options and installed versions."""
    identity = [FORMAT_VERSION, asdict(options), installed_versions(options.libraries)]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return folder / f"docstrings-{digest[:16]}.json.gz"


def read_cache(path: Path) -> list[Docstring] | None:
    """Returns the cached corpus; `None` if there is none or it is damaged."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            return [Docstring(*fields) for fields in json.load(file)]
    except (OSError, EOFError, zlib.error, ValueError, TypeError):
        return None


def write_cache(path: Path, documents: list[Docstring]) -> None:
    """Writes the corpus in one atomic step, or warns that it cannot be cached."""
    rows = [[each.library, each.module, each.text] for each in documents]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            os.close(handle)
            with gzip.open(temporary, "wt", encoding="utf-8", compresslevel=4) as file:
                json.dump(rows, file)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        warnings.warn(
            f"The corpus could not be cached in {path.parent} ({error}). It will be "
            "built again next time.",
            stacklevel=2,
        )


def cached_corpus(
    options: DocstringOptions, folder: Path | None = None
) -> list[Docstring]:
    """Returns the corpus from the cache, or reads it from the libraries.

    Args:
        options: The choice of the docstrings.
        folder: Folder of the cache; `None` for the user's cache folder.

    Returns:
        The docstrings, grouped by library and module.

    Raises:
        InputError: If fewer than two of the libraries are installed.
    """
    path = cache_path(options, folder or cache_folder())
    documents = read_cache(path)
    if documents is None:
        documents = collect(options)
        write_cache(path, documents)
    return documents


def split_by_module(
    documents: list[Docstring], fraction: float = 0.1
) -> dict[str, list[Docstring]]:
    """Assigns the modules of each library to the parts.

    Args:
        documents: The corpus, grouped by library and module; the modules are in random
            order.
        fraction: Share of a library's documents in the test part, and in the validation
            part. Both get a little more, since modules are not split.

    Returns:
        The documents of the parts `"train"`, `"validation"` and `"test"`.
    """
    parts: dict[str, list[Docstring]] = {"test": [], "validation": [], "train": []}
    sizes = Counter(document.library for document in documents)
    part_of: dict[tuple[str, str], str] = {}
    filled: Counter[tuple[str, str]] = Counter()
    for document in documents:
        home = document.library, document.module
        if home not in part_of:
            wanted = fraction * sizes[document.library]
            part_of[home] = next(
                (
                    part
                    for part in ("test", "validation")
                    if filled[document.library, part] < wanted
                ),
                "train",
            )
        part = part_of[home]
        filled[document.library, part] += 1
        parts[part].append(document)
    return parts


def load_docstrings(
    max_words: int = MAX_WORDS,
    options: DocstringOptions | None = None,
    folder: Path | None = None,
) -> Dataset:
    """Loads the docstrings of the installed numerical libraries.

    Args:
        max_words: Number of the most frequent words that become features.
        options: The choice of the docstrings; `None` for the default.
        folder: Folder of the cache; `None` for the user's cache folder.

    Returns:
        The dataset, split by module.

    Raises:
        InputError: If fewer than two of the libraries are installed.
    """
    options = options or DocstringOptions()
    documents = cached_corpus(options, folder)
    classes, _ = encode_labels([each.library for each in documents], "the docstrings")
    parts = split_by_module(documents)
    versions = installed_versions(options.libraries)
    return vectorize(
        "docstrings" if options.masked else "docstrings-unmasked",
        f"docstrings of {', '.join(versions.values())}",
        classes,
        (
            Split(
                np.array([each.text for each in parts[part]], object),
                np.array([classes.index(each.library) for each in parts[part]], int),
            )
            for part in ("train", "validation", "test")
        ),
        max_words,
    )
