import bz2
import gzip
import lzma

import numpy as np
import pytest

from keras_adaptive.datasets import newsgroups
from keras_adaptive.datasets.csv_files import load_csv_texts
from keras_adaptive.datasets.dataset import Split
from keras_adaptive.datasets.newsgroups import load_newsgroups
from keras_adaptive.datasets.text import vectorize
from keras_adaptive.errors import InputError

ROWS = "".join(
    f'{number},"a text, number {number} on {topic}",{topic}\n'
    for number in range(20)
    for topic in ("boats", "trees")
)
HEADER = "id,text,topic\n"


def load(path, **columns):
    return load_csv_texts(path, **{"text": "text", "target": "topic"} | columns)


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [
        ("", bytes),
        (".gz", gzip.compress),
        (".bz2", bz2.compress),
        (".xz", lzma.compress),
    ],
)
def test_csv(tmp_path, suffix, compress):
    path = tmp_path / f"my.csv{suffix}"
    path.write_bytes(compress(b"\xef\xbb\xbf" + (HEADER + ROWS).encode()))
    data = load(path)
    assert data.classes == ("boats", "trees")
    assert [len(split.y) for split in data.parts.values()] == [32, 4, 4]


def test_csv_files_may_hold_line_ends_and_quotes(tmp_path):
    path = tmp_path / "my.csv"
    path.write_text(HEADER + ROWS + '99,"two\nlines ""quoted"" zebra",trees\n')
    data = load(path)
    assert sum(len(split.y) for split in data.parts.values()) == 41


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (HEADER.encode(), "header but no rows"),
        (b"id,words,topic\n1,a,b\n", r"no column 'text'.*id, words, topic"),
        (b"id,text,topic\n1,a,b\n2,a\n", "line 3 has 2 fields. Expected 3"),
        (b"id,text,topic\n1,a,b,c\n", "line 2 has 4 fields"),
        (b'id,text,topic\n1,"a\nb",x\n2,c,\n', "1 of 2 rows have no label.*row 2"),
        (b"id,text,topic\n1,a,NaN\n", "1 of 1 rows have no label.*row 1"),
        (b"id,text,id\n1,a,b\n", "two columns called 'id'"),
        (b'id,text,topic\n1,a,b\n2,"open,b\n', "line 3 cannot be read as CSV"),
        (b"id,text,topic\n1,caf\xe9,b\n", "line 2 is not UTF-8"),
        (b"id,text,topic\n1,a,b\n2,c,b\n", "only the class 'b'"),
        (b"id,text,topic\n1,one,b\n2,two,d\n", "2 rows, too few rows to split"),
    ],
)
def test_bad_csv(tmp_path, content, words):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        load(path)


def test_a_cut_off_gz_names_the_line(tmp_path):
    path = tmp_path / "bad.csv.gz"
    path.write_bytes(gzip.compress((HEADER + ROWS).encode())[:-30])
    with pytest.raises(InputError, match=r"cannot be read at line \d+"):
        load(path)


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_no_csv_file(tmp_path, kind):
    path = tmp_path if kind == "folder" else tmp_path / "none.csv"
    with pytest.raises(InputError, match="is a folder|does not exist"):
        load(path)


def test_vocabulary_is_that_of_the_training_texts():
    parts = [
        Split(np.array(texts, object), np.array([0, 1]))
        for texts in (["boat sea", "tree"], ["lake", "sea"], ["lake", "tree"])
    ]
    data = vectorize("n", "s", ("a", "b"), parts, max_words=10)
    assert data.features == 3
    assert data.test.x[0].nnz == 0
    np.testing.assert_allclose(data.train.x.power(2).sum(axis=1), 1, rtol=1e-6)


def test_texts_without_words():
    blank = Split(np.array(["", "!"], object), np.array([0, 1]))
    with pytest.raises(InputError, match="hold no words"):
        vectorize("n", "here", ("a", "b"), [blank] * 3, max_words=10)


def test_real_csv(real_data, tmp_path):
    data = load_csv_texts(real_data / "nursery.csv.gz", *nursery_columns(real_data))
    assert len(data.classes) == 5
    assert sum(len(split.y) for split in data.parts.values()) == 12_960


def nursery_columns(folder):
    with gzip.open(folder / "nursery.csv.gz", "rt") as file:
        names = file.readline().strip().split(",")
    return names[0], names[-1]


def test_newsgroups(real_data):
    data = load_newsgroups(2_000, real_data)
    assert len(data.train.y) + len(data.validation.y) == 11_314
    assert len(data.test.y) == 7_532
    assert data.features == 2_000
    assert len(data.classes) == 20
    assert np.bincount(data.validation.y).min() > 30


def test_newsgroups_without_headers_are_shorter(real_data):
    plain, bare = (
        newsgroups.fetch("test", real_data, headers=headers).data
        for headers in (True, False)
    )
    assert sum(map(len, bare)) < 0.8 * sum(map(len, plain))


def test_newsgroups_absent_and_offline(tmp_path, monkeypatch):
    monkeypatch.setattr(newsgroups, "archive_is_reachable", lambda: False)
    with pytest.raises(InputError) as caught:
        load_newsgroups(100, tmp_path)
    message = str(caught.value)
    assert newsgroups.CACHE_NAME in message
    assert str(tmp_path) in message
    assert newsgroups.ARCHIVE_URL in message


def test_newsgroups_download_that_fails(tmp_path, monkeypatch):
    def refuse(**options):
        assert options["download_if_missing"]
        raise OSError("connection reset")

    monkeypatch.setattr(newsgroups, "archive_is_reachable", lambda: True)
    monkeypatch.setattr(newsgroups, "fetch_20newsgroups", refuse)
    with pytest.raises(InputError, match="could not be downloaded: connection reset"):
        load_newsgroups(100, tmp_path)


def test_newsgroups_damaged_cache(tmp_path):
    (tmp_path / newsgroups.CACHE_NAME).write_bytes(b"not a cache")
    with pytest.raises(InputError, match="cannot be read"):
        load_newsgroups(100, tmp_path)
