"""The 20 Newsgroups texts, as scikit-learn fetches and caches them."""

import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from keras_adaptive.datasets.dataset import Dataset, Split
from keras_adaptive.datasets.splitting import three_parts
from keras_adaptive.datasets.text import MAX_WORDS, vectorize
from keras_adaptive.errors import InputError, needs_extra

with needs_extra("study"):
    from sklearn.datasets import fetch_20newsgroups, get_data_home

CACHE_NAME = "20news-bydate_py3.pkz"
ARCHIVE_URL = "https://ndownloader.figshare.com/files/5975967"


def archive_is_reachable(timeout: float = 10.0) -> bool:
    """Says whether the archive that scikit-learn downloads is reachable."""
    request = urllib.request.Request(ARCHIVE_URL, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=timeout):
            return True
    except OSError:
        return False


def fetch(subset: str, data_home: Path | None, headers: bool) -> Any:
    """Fetches a subset from the cache, or from the network if there is no cache.

    Args:
        subset: `"train"` or `"test"`.
        data_home: Folder of the cache; `None` for scikit-learn's own.
        headers: Whether headers, footers and quotes are kept.

    Returns:
        The bunch that scikit-learn returns.

    Raises:
        InputError: If the cache is damaged, or missing without a network.
    """
    folder = Path(data_home or get_data_home()).expanduser()
    cache = folder / CACHE_NAME
    if not cache.exists() and not archive_is_reachable():
        raise InputError(
            f"The 20 Newsgroups texts are not in {folder} and cannot be downloaded: "
            f"{ARCHIVE_URL} is not reachable. On a machine with a network, run "
            'python -c "from sklearn.datasets import fetch_20newsgroups as f; f('
            f"data_home='.')\" and put the file {CACHE_NAME} into {folder}, or pass "
            "its folder as data_home (--data-home)."
        )
    try:
        return fetch_20newsgroups(
            data_home=folder,
            subset=subset,
            remove=() if headers else ("headers", "footers", "quotes"),
            download_if_missing=not cache.exists(),
        )
    except OSError as error:
        state = "cannot be read" if cache.exists() else "could not be downloaded"
        raise InputError(
            f"The 20 Newsgroups texts in {cache} {state}: {error}. Delete the file if "
            "it exists, and run again with a network or with an intact copy."
        ) from error


def load_newsgroups(
    max_words: int = MAX_WORDS,
    data_home: str | Path | None = None,
    headers: bool = True,
    seed: int = 0,
) -> Dataset:
    """Loads the 20 Newsgroups texts with their official split by date.

    Args:
        max_words: Number of the most frequent words that become features.
        data_home: Folder of scikit-learn's cache.
        headers: Whether headers, footers and quotes are kept. Without them the task
            is much harder and more realistic.
        seed: Seed of the split of the official training texts into training and
            validation.

    Returns:
        The dataset; a tenth of the official training texts is the validation part.

    Raises:
        InputError: If the texts cannot be found or downloaded.
    """
    home = Path(data_home) if data_home else None
    fetched = [fetch(subset, home, headers) for subset in ("train", "test")]
    rows, test = (
        Split(np.array(each.data, object), np.asarray(each.target)) for each in fetched
    )
    return vectorize(
        "newsgroups" if headers else "newsgroups-no-headers",
        ARCHIVE_URL,
        tuple(fetched[0].target_names),
        three_parts(rows, test, "classification", seed),
        max_words,
    )
