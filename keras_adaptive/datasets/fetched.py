"""Real tables by name, from a folder or downloaded from their sites."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_adaptive.datasets.dataset import Dataset, Split, Task
from keras_adaptive.datasets.files import OPENERS
from keras_adaptive.datasets.frames import load_frame, table
from keras_adaptive.datasets.splitting import three_parts
from keras_adaptive.errors import InputError, needs_extra

with needs_extra("study"):
    import pandas as pd
    from sklearn import datasets

ADULT_COLUMNS = (
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status"),
    *("occupation", "relationship", "race", "sex", "capital-gain", "capital-loss"),
    *("hours-per-week", "native-country", "income"),
)


def fetch(
    what: str,
    function: Callable[..., Any],
    data_home: str | Path | None,
    **arguments: Any,
) -> Any:
    """Calls one of scikit-learn's fetchers.

    Args:
        what: The name of the data, for the error message.
        function: The fetcher; it looks into its cache first.
        data_home: Folder of the cache; `None` for scikit-learn's own.
        arguments: Other arguments of the fetcher.

    Raises:
        InputError: If the data are not in the folder and cannot be downloaded.
    """
    folder = Path(data_home or datasets.get_data_home()).expanduser()
    try:
        return function(data_home=folder, **arguments)
    except (OSError, ValueError, EOFError) as error:
        shown = "".join(f"{name}={value!r}, " for name, value in arguments.items())
        raise InputError(
            f"{what}: neither found in {folder} nor downloaded ({error}). Run "
            f"sklearn.datasets.{function.__name__}({shown}data_home='.') on a machine "
            "with a network, copy the folder, and pass it as data_home (--data-home)."
        ) from error


def find(folder: str | Path | None, name: str) -> Path | None:
    """Returns the path of a file, plain or compressed; `None` if it does not exist."""
    if folder is None:
        return None
    names = [name, *(name + suffix for suffix in OPENERS)]
    paths = [Path(folder).expanduser() / each for each in names]
    return next((path for path in paths if path.is_file()), None)


def load_adult(data_home: str | Path | None = None, seed: int = 0) -> Dataset:
    """Loads the census records of Adult, labelled by an income above 50,000 dollars.

    Args:
        data_home: Folder with UCI's files `adult.data` and `adult.test`, plain or
            compressed; the second is the official test part. If it does not contain
            them, the folder of scikit-learn's cache of OpenML. The copy there has no
            test part: a tenth of the rows is held out, and the dataset is called
            `openml:adult`.
        seed: Seed of the split.

    Returns:
        The dataset, with eight categories and six numbers.

    Raises:
        InputError: If the records cannot be found or downloaded.
    """
    train, test = (find(data_home, name) for name in ("adult.data", "adult.test"))
    if train is None or test is None:
        try:
            return load_openml("adult", data_home, version=2, seed=seed)
        except InputError as error:
            raise InputError(
                f"There are no adult.data and adult.test in {data_home}. {error}"
            ) from error
    source = f"UCI Adult, {train} and {test}"
    frames = read_adult(train), read_adult(test)
    return load_frame("adult", source, frames[0], "income", frames[1], seed=seed)


def read_adult(path: Path) -> pd.DataFrame:
    """Reads a file of UCI's Adult: lines without a header, after a remark in one file.

    Args:
        path: Path of the file.

    Raises:
        InputError: If it is not a file of Adult.
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
        raise InputError(
            f"{path} cannot be read: {error}. Download it again."
        ) from error
    if frame["income"].isna().any():
        raise InputError(
            f"{path}, row {int(frame['income'].isna().argmax()) + 1} does not have 15 "
            "fields. Expected the original file of UCI."
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
        name: Name of the table on openml.org.
        data_home: Folder of scikit-learn's cache.
        version: Version of the table on openml.org.
        seed: Seed of the split.

    Returns:
        The dataset, called `openml:` and the name; validation and test part are a tenth
        of the rows each.

    Raises:
        InputError: If the table cannot be found or downloaded, or does not have exactly
            one target.
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
            f"OpenML's table {name!r} does not have exactly one target column. Save it "
            "as a file and name the column with --target."
        )
    source = f"OpenML {name}, version {bunch.details['version']}"
    return load_frame(
        f"openml:{name}", source, bunch.frame, bunch.target.name, seed=seed
    )


def load_covertype(data_home: str | Path | None = None, seed: int = 0) -> Dataset:
    """Loads 581,012 patches of forest, each covered by one of seven kinds of trees.

    Args:
        data_home: Folder of scikit-learn's cache.
        seed: Seed of the split.

    Returns:
        The dataset; validation and test part are a tenth of the rows each.

    Raises:
        InputError: If the data cannot be found or downloaded.
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
        The dataset; validation and test part are a tenth of the rows each.

    Raises:
        InputError: If the data cannot be found or downloaded.
    """
    bunch = fetch("California housing", datasets.fetch_california_housing, data_home)
    return _numbers("california_housing", bunch, "regression", seed)


def _numbers(name: str, bunch: Any, task: Task, seed: int) -> Dataset:
    y = bunch.target
    classes: tuple[str, ...] = ()
    if task == "classification":
        names, y = np.unique(y, return_inverse=True)
        classes = tuple(map(str, names))
    columns = {str(number): column for number, column in enumerate(bunch.data.T)}
    parts = three_parts(Split(columns, y), None, task, seed)
    return table(name, f"scikit-learn's {name}", parts, task, classes)
