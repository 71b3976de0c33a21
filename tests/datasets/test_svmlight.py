import bz2
import gzip

import numpy as np
import pytest

from keras_adaptive.datasets.svmlight import load_svmlight
from keras_adaptive.errors import InputError

GOOD = b"# a comment\n" + b"+1 1:0.5 3:1 # one\n-1 2:1 4:2\n" * 20


def test_labels_rows_and_scale(tmp_path):
    path = tmp_path / "my.svm"
    path.write_bytes(GOOD)
    data = load_svmlight(path)
    assert data.classes == ("-1", "1")
    assert data.features == 4
    assert [len(split.y) for split in data.parts.values()] == [32, 4, 4]
    np.testing.assert_allclose(data.train.x.power(2).sum(axis=1), 1, rtol=1e-6)


def test_test_file(tmp_path):
    train, test = tmp_path / "my.svm.gz", tmp_path / "my.t.bz2"
    train.write_bytes(gzip.compress(GOOD))
    test.write_bytes(bz2.compress(b"-1 9:1\n+1 1:1\n"))
    data = load_svmlight(train, test)
    assert data.test.y.tolist() == [0, 1]
    assert data.train.x.shape == (36, 9)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"spam 1:1", "line 42: the label 'spam' is not a number"),
        (b"0.5 1:1", "line 42: the label '0.5' is not a whole number"),
        (b"nan 1:1", "line 42: the label 'nan' is not a finite number"),
        (b"1 1:x", "line 42: '1:x' is not of the form"),
        (b"1 word", "line 42: 'word' is not of the form"),
        (b"1 3:1 2:1", "line 42: the index in '2:1' is not above"),
        (b"1 1:inf", "line 42: the value in '1:inf' is not a finite"),
        (b"1 1:nan", "line 42: the value in '1:nan' is not a finite"),
        (b"1 -1:1", "line 42: the index in '-1:1' is negative"),
        (b"\xff\xfe\x00", "line 42: the label"),
    ],
)
def test_bad_lines_are_named(tmp_path, line, words):
    path = tmp_path / "bad.svm"
    path.write_bytes(GOOD + line + b"\n")
    with pytest.raises(InputError, match=words):
        load_svmlight(path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.svm", b"", "is empty"),
        ("a.svm", b"# only a comment\n\n", "no line with 'label index:value"),
        ("a.svm", b"1 1:1\n" * 20, "only the class '1'"),
        ("a.svm", b"1 1:1\n2 1:2\n", "too few rows"),
        ("a.svm.bz2", GOOD, "cannot be read at line 1"),
        ("a.svm.gz", gzip.compress(GOOD, mtime=0)[:-12], r"cannot be read at line \d+"),
    ],
)
def test_bad_files(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        load_svmlight(path)


def test_regression(tmp_path):
    path = tmp_path / "my.svm"
    path.write_bytes(b"0.5 1:1\n-3e1 2:1\n" * 20)
    data = load_svmlight(path, task="regression")
    assert data.task == "regression"
    assert data.classes == ()
    np.testing.assert_allclose(np.unique(data.train.y), [-1, 1], rtol=1e-6)
    with pytest.raises(InputError, match="line 1: the label '0.5' is not a whole"):
        load_svmlight(path)


def test_a_label_that_training_lacks(tmp_path):
    train, test = tmp_path / "my.svm", tmp_path / "my.t"
    train.write_bytes(GOOD)
    test.write_bytes(b"3 1:1\n")
    with pytest.raises(InputError, match="has the label 3"):
        load_svmlight(train, test)


def test_real_files(real_data):
    news = load_svmlight(real_data / "news20.bz2")
    assert news.features == 62_061
    assert len(news.classes) == 20
    assert sum(len(split.y) for split in news.parts.values()) == 15_935
    adult = load_svmlight(real_data / "a9a.bz2", real_data / "a9a.t.bz2")
    assert adult.features == 123
    assert (adult.test.y == 1).sum() == 3_846
