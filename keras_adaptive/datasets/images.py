"""Fashion-MNIST, from its own files or from Keras's loader."""

import gzip
import math
import struct
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_adaptive.datasets.dataset import Dataset, Split
from keras_adaptive.datasets.files import UNREADABLE
from keras_adaptive.datasets.splitting import three_parts
from keras_adaptive.errors import InputError

CLOTHES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
UNSIGNED_BYTES = 8
"""The code of the only type of numbers that these files hold."""


def read_idx(path: Path) -> np.ndarray:
    """Reads a gzipped IDX file of bytes, the format of MNIST.

    Args:
        path: Path of the file.

    Returns:
        The array of uint8.

    Raises:
        InputError: If the file is damaged or of another kind.
    """
    try:
        content = gzip.decompress(path.read_bytes())
        _, code, axes = struct.unpack_from(">HBB", content)
        shape = struct.unpack_from(f">{axes}I", content, 4)
        if code != UNSIGNED_BYTES or len(content) != 4 + 4 * axes + math.prod(shape):
            raise ValueError("its size is not what its header says")
        return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)
    except (ValueError, struct.error, *UNREADABLE) as error:
        raise InputError(
            f"{path} cannot be read as an IDX file of bytes: {error}. "
            "Download it again."
        ) from error


def read_fashion_mnist(data_home: str | Path | None) -> tuple[Split, Split]:
    """Returns the official training and test part: images and labels as bytes."""
    folders = [Path(data_home).expanduser()] if data_home else []
    for folder in [each / sub for each in folders for sub in ("fashion-mnist", ".")]:
        paths = [folder / name for name in FILES]
        if all(path.is_file() for path in paths):
            x, y, x_test, y_test = map(read_idx, paths)
            return Split(x, y), Split(x_test, y_test)
    try:
        (x, y), (x_test, y_test) = keras.datasets.fashion_mnist.load_data()
        return Split(x, y), Split(x_test, y_test)
    except Exception as error:  # Keras raises a bare Exception for a failed download
        places = f"in {folders[0]} nor " if folders else ""
        raise InputError(
            f"Fashion-MNIST is neither {places}in Keras's cache, and cannot be "
            f"downloaded ({error}). Put {', '.join(FILES)} from "
            "github.com/zalandoresearch/fashion-mnist into a folder and pass it as "
            "data_home (--data-home)."
        ) from error


def load_fashion_mnist(data_home: str | Path | None = None, seed: int = 0) -> Dataset:
    """Loads 70,000 grey images of clothes, 28 × 28 pixels from 0 to 255.

    Args:
        data_home: Folder that contains the four IDX files, or a folder `fashion-mnist`
            with them. Otherwise they come from Keras's cache or are downloaded.
        seed: Seed of the split of the official training part.

    Returns:
        The dataset with images of one channel, as bytes; a tenth of the official
        training part is the validation part.

    Raises:
        InputError: If the images cannot be found or downloaded.
    """

    def with_channel(part: Split) -> Split:
        x: Any = part.x
        return Split(x[..., None], part.y.astype(np.int64))

    rows, test = map(with_channel, read_fashion_mnist(data_home))
    return Dataset(
        "fashion_mnist",
        "Fashion-MNIST",
        *three_parts(rows, test, "classification", seed),
        classes=CLOTHES,
    )
