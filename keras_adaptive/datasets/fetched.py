"""Real tables by name, from a folder or, where there is a network, from their sites."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_adaptive.datasets.dataset import Dataset, Split, three_parts
from keras_adaptive.datasets.files import OPENERS
from keras_adaptive.datasets.frames import load_frame, table
from keras_adaptive.errors import InputError, needs_extra

with needs_extra("study"):
    import pandas as pd
    from sklearn import datasets

ADULT_COLUMNS = (
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status"),
    *("occupation", "relationship", "race", "sex", "capital-gain", "capital-loss"),
    *("hours-per-week", "native-country", "income"),
)


def fetch(what: str, function: Callable, data_home: str | Path | None, **arguments):
    """Calls one of scikit-learn's fetchers.

    Args:
        what: What is fetched, for the error message.
        function: The fetcher; it looks into its cache before the network.
        data_home: Folder of the cache; `None` for scikit-learn's own.
        arguments: The fetcher's own arguments.

    Raises:
        InputError: If the data are neither in the folder nor can be downloaded.
    """
    folder = Path(data_home or datasets.get_data_home()).expanduser()
    try:
        return function(data_home=folder, **arguments)
    except (OSError, ValueError, EOFError) as error:
        shown = "".join(f"{name}={value!r}, " for name, value in arguments.items())
        raise InputError(
            f"{what}: neither found in {folder} nor downloaded ({error}). Run "
            f"sklearn.datasets.{function.__name__}({shown}data_home='.') on a machine "
            "with a network, copy the folder, and name it with --data-home."
        ) from error


def find(folder: str | Path | None, name: str) -> Path | None:
    """Returns the path of a file, plain or compressed, or `None` if it is not there."""
    if folder is None:
        return None
    names = [name, *(name + suffix for suffix in OPENERS)]
    paths = [Path(folder).expanduser() / each for each in names]
    return next((path for path in paths if path.is_file()), None)


def load_adult(data_home: str | Path | None = None, seed: int = 0) -> Dataset:
    """Loads the census records of Adult: is the income above 50,000 dollars?

    Args:
        data_home: Folder with UCI's files `adult.data` and `adult.test`, plain or
            compressed; they hold the official test part. Without them, folder of
            scikit-learn's cache of OpenML, whose copy has no test part: then a tenth
            of the rows is held out, and the dataset is called `openml:adult`.
        seed: Seed of the split.

    Returns:
        The dataset, with eight categories and six numbers.

    Raises:
        InputError: If the records cannot be had.
    """
    paths = [find(data_home, name) for name in ("adult.data", "adult.test")]
    if not all(paths):
        try:
            return load_openml("adult", data_home, version=2, seed=seed)
        except InputError as error:
            raise InputError(
                f"There are no adult.data and adult.test in {data_home}. {error}"
            ) from error
    frames = [read_adult(path) for path in paths]
    source = f"UCI Adult, {paths[0]} and {paths[1]}"
    return load_frame("adult", source, frames[0], "income", frames[1], seed=seed)


def read_adult(path: Path) -> pd.DataFrame:
    """Reads a file of UCI's Adult: lines without header, in the test file a remark.

    Args:
        path: Path of the file.

    Raises:
        InputError: If it is not such a file.
    """
    try:
        frame = pd.read_csv(
            path,
            names=ADULT_COLUMNS,
            skipinitialspace=True,
            na_values="?",
            comment="|",
        )
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}. Get it again.") from error
    if frame["income"].isna().any():
        raise InputError(
            f"{path}, row {int(frame['income'].isna().argmax()) + 1} does not have 15 "
            "fields. Expected the file as UCI has it."
        )
    frame["income"] = frame["income"].str.rstrip(".")
    return frame


def load_openml(
    name: str,
    data_home: str | Path | None = None,
    version: int | str = "active",
    seed: int = 0,
) -> Dataset:
    """Loads a table of OpenML with its default target.

    Args:
        name: Its name on openml.org.
        data_home: Folder of scikit-learn's cache.
        version: Its version there.
        seed: Seed of the split.

    Returns:
        The dataset, called `openml:` and the name; a tenth of the rows each is the
        validation and the test part.

    Raises:
        InputError: If the table cannot be had, or has no one target.
    """
    bunch = fetch(
        f"OpenML's table {name!r}",
        datasets.fetch_openml,
        data_home,
        name=name,
        version=version,
        as_frame=True,
        parser="pandas",
    )
    if not isinstance(bunch.target, pd.Series):
        raise InputError(
            f"OpenML's table {name!r} has no one target column. Save it as a file and "
            "name the column with --target."
        )
    source = f"OpenML {name}, version {bunch.details['version']}"
    return load_frame(
        f"openml:{name}", source, bunch.frame, bunch.target.name, seed=seed
    )


def load_covertype(data_home: str | Path | None = None, seed: int = 0) -> Dataset:
    """Loads 581,012 patches of forest with one of seven kinds of trees.

    Args:
        data_home: Folder of scikit-learn's cache.
        seed: Seed of the split.

    Returns:
        The dataset; a tenth of the rows each is the validation and the test part.

    Raises:
        InputError: If the data cannot be had.
    """
    bunch = fetch("Covertype", datasets.fetch_covtype, data_home)
    return _numbers("covertype", bunch, "classification", seed)


def load_california_housing(
    data_home: str | Path | None = None, seed: int = 0
) -> Dataset:
    """Loads the median house value of 20,640 districts of California, a regression.

    Args:
        data_home: Folder of scikit-learn's cache.
        seed: Seed of the split.

    Returns:
        The dataset; a tenth of the rows each is the validation and the test part.

    Raises:
        InputError: If the data cannot be had.
    """
    bunch = fetch("California housing", datasets.fetch_california_housing, data_home)
    return _numbers("california_housing", bunch, "regression", seed)


def _numbers(name: str, bunch: Any, task: str, seed: int) -> Dataset:
    y, classes = bunch.target, ()
    if task == "classification":
        names, y = np.unique(y, return_inverse=True)
        classes = tuple(map(str, names))
    columns = {str(number): column for number, column in enumerate(bunch.data.T)}
    parts = three_parts(Split(columns, y), None, task, seed)
    return table(name, f"scikit-learn's {name}", parts, task, classes)
