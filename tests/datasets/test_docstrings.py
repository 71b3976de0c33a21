import gzip
from importlib import metadata

import pytest

from keras_adaptive.datasets import docstrings
from keras_adaptive.datasets.docstrings import (
    Docstring,
    DocstringOptions,
    cached_corpus,
    collect,
    load_docstrings,
    mask_names,
    names_library,
    split_by_module,
)
from keras_adaptive.errors import InputError

MODULE = '''
"""{shared} shared by both libraries, so that no one can tell which one it is from."""

def first():
    """{topic} number {number} of the first function, with the numpy name in it."""

class Thing:
    def method(self):
        """{topic} number {number} of the method, repeated in every library alike."""

    if True:
        def nested(self):
            """{topic}: the very same words stand in each of the modules here."""

def short():
    """{topic}"""
'''


@pytest.fixture
def options(tmp_path, monkeypatch):
    """Two libraries of twelve modules, one that is not valid Python, and a test."""
    for library, topic in (("liba", "Sailing"), ("libb", "Gardening")):
        root = tmp_path / "site" / library
        (root / "tests").mkdir(parents=True)
        (root / "__init__.py").write_text("raise RuntimeError('imported!')")
        (root / "broken.py").write_text('"""A docstring""" and then (')
        (root / "tests" / "test_it.py").write_text(f'"""{"Testing. " * 20}"""')
        for number in range(12):
            source = MODULE.format(topic=topic, number=number, shared="Words")
            (root / f"m{number}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(metadata, "packages_distributions", dict)
    return DocstringOptions(libraries=("liba", "libb", "libc"), min_characters=50)


@pytest.mark.parametrize(
    "word",
    [
        *("numpy", "NumPy", "np", "np_array", "as_np", "sklearn", "scikit-learn"),
        *("scikit learn", "pd", "plt", "matplotlib", "mpl", "tf", "TF2", "tf_function"),
        *("TFRecord", "tensorflow", "TensorFlow", "Tensor Flow", "KerasTensor"),
        *("keras_core", "MlflowClient", "scipy", "sp", "__pandas_priority__"),
    ],
)
def test_names_are_masked(word):
    assert mask_names(f"see {word}.x").split() == ["see", ".x"]


@pytest.mark.parametrize(
    "word", ["example", "simple", "input", "learn", "platform", "stft", "utf8", "spam"]
)
def test_other_words_stay(word):
    assert mask_names(word) == word


def test_no_name_is_left_in_real_docstrings():
    documents = collect(
        DocstringOptions(libraries=("numpy", "matplotlib"), max_per_library=60)
    )
    assert len(documents) > 60
    words = {w for each in documents for w in docstrings.WORD.findall(each.text)}
    assert not [word for word in words if names_library(word)]


def test_corpus_is_read_without_importing(options):
    documents = collect(options)
    assert {each.library for each in documents} == {"liba", "libb"}
    texts = [each.text for each in documents]
    assert not any("numpy" in text for text in texts)
    assert not any("Testing" in text for text in texts)
    assert "Sailing" not in texts  # shorter than min_characters


def test_copies_are_dropped(options):
    texts = [each.text for each in collect(options)]
    assert len(texts) == len(set(texts))
    assert sum("the very same words" in text for text in texts) == 2
    assert not any("shared by both libraries" in text for text in texts)


def test_no_module_is_in_two_parts(options):
    documents = collect(options)
    parts = split_by_module(documents)
    homes = {
        part: {(each.library, each.module) for each in members}
        for part, members in parts.items()
    }
    assert not homes["train"] & homes["validation"]
    assert not homes["train"] & homes["test"]
    assert not homes["validation"] & homes["test"]
    assert sum(map(len, parts.values())) == len(documents)
    for members in parts.values():
        assert {each.library for each in members} == {"liba", "libb"}
    assert len(parts["train"]) > 0.6 * len(documents)


def test_max_per_library(options):
    few = DocstringOptions(options.libraries, 50, max_per_library=5)
    documents = collect(few)
    assert len(documents) <= 10
    assert collect(few) == documents


def test_cache_is_used_and_a_damaged_one_rebuilt(options, tmp_path, monkeypatch):
    built = cached_corpus(options, tmp_path / "cache")
    (path,) = (tmp_path / "cache").iterdir()

    kept = [Docstring("liba", "m", "from the cache"), *built]
    docstrings.write_cache(path, kept)
    assert cached_corpus(options, tmp_path / "cache") == kept

    whole = path.read_bytes()
    for damaged in (b"", b"garbage", whole[:-20], gzip.compress(b'[["one field"]]')):
        path.write_bytes(damaged)
        assert cached_corpus(options, tmp_path / "cache") == built
    assert list((tmp_path / "cache").iterdir()) == [path]


def test_other_versions_and_options_have_other_caches(options, tmp_path, monkeypatch):
    path = docstrings.cache_path(options, tmp_path)
    plain = DocstringOptions(options.libraries, 50, masked=False)
    assert docstrings.cache_path(plain, tmp_path) != path
    monkeypatch.setattr(docstrings, "installed_versions", lambda names: {"liba": "2"})
    assert docstrings.cache_path(options, tmp_path) != path


def test_an_unwritable_cache_only_warns(options, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.warns(UserWarning, match="could not be cached"):
        assert cached_corpus(options, blocked)


def test_one_library_is_an_error(options):
    alone = DocstringOptions(libraries=("liba", "libc"), min_characters=50)
    with pytest.raises(InputError, match="at least two of these libraries"):
        collect(alone)


def test_dataset(options, tmp_path):
    data = load_docstrings(100, options, tmp_path)
    assert data.classes == ("liba", "libb")
    assert data.train.x.dtype == "float32"
    assert data.train.x.format == "csr"
    assert data.features == data.test.x.shape[1]
