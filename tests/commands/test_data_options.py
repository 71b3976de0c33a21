"""Data chosen on the command line, by a word or by a file."""

import argparse

import numpy as np
import pandas as pd
import pytest

from keras_adaptive.commands import data_options
from keras_adaptive.errors import InputError


def parse(*arguments, default=("digits",)):
    parser = argparse.ArgumentParser()
    data_options.add_data_options(parser, *default)
    return parser.parse_args(list(map(str, arguments)))


def load(*arguments):
    return data_options.load_one(parse(*arguments))


@pytest.mark.parametrize(
    ("name", "rows", "shape", "classes"),
    [
        ("digits", 1_797, (64,), 10),
        ("wine", 178, (13,), 3),
        ("breast_cancer", 569, (30,), 2),
        ("diabetes", 442, (10,), 0),
    ],
)
def test_bundled(name, rows, shape, classes):
    data = load("--data", name)
    assert data.name == name
    assert sum(len(part.y) for part in data.parts.values()) == rows
    assert data.train.x.shape[1:] == shape
    assert len(data.classes) == classes
    assert data.task == ("classification" if classes else "regression")
    assert data.digest == load("--data", name).digest


def test_the_default_source():
    assert load().name == "digits"
    with pytest.raises(SystemExit):
        parse(default=())


def test_several_sources():
    options = parse("--data", "wine", "digits")
    assert [data.name for data in data_options.load_all(options)] == ["wine", "digits"]
    with pytest.raises(InputError, match="names 2 sources: wine, digits"):
        data_options.load_one(options)


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "parquet"])
def test_a_file_by_its_name(tmp_path, suffix):
    path = tmp_path / f"my.{suffix}"
    rows = pd.DataFrame(
        {"x": np.arange(40.0), "kind": [1, 2] * 20, "y": ["a", "b"] * 20}
    )
    getattr(rows, f"to_{suffix.partition('.')[0]}")(path, index=False)
    data = load("--data", path, "--target", "y", "--category", "kind")
    assert sorted(data.train.x) == ["kind", "numbers"]
    again = load("--data", path, "--target", "y", "--test-file", path)
    assert [len(part.y) for part in again.parts.values()] == [36, 4, 40]
    numbers = load("--data", path, "--target", "kind", "--task", "regression")
    assert numbers.task == "regression"


def test_a_libsvm_file_by_its_name(tmp_path):
    path = tmp_path / "my.svm"
    path.write_text("1 1:1 2:1\n0 2:1\n" * 20)
    assert load("--data", path).name == "svmlight:my.svm"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "digit"], "no data source 'digit'.*Did you mean 'digits'"),
        (["--data", "my.xlsx"], "no data source 'my.xlsx'"),
        (["--data", "my.csv"], "needs --target"),
        (["--data", "none.csv", "--target", "y"], "does not exist"),
        (["--data", "csv:"], "names nothing.*csv:data/my.csv"),
        (["--data", "openml:"], "names nothing.*openml:adult"),
        (
            ["--data", "a.parquet", "--target", "y", "--text-column", "t"],
            "--text-column does not apply to a.parquet.*applies to csv with",
        ),
        (["--max-words", "0"], "at least 1"),
    ],
)
def test_bad_sources(arguments, words):
    with pytest.raises(InputError, match=f"(?s){words}"):
        load(*arguments)


GIVEN = {
    "category": ["--category", "c"],
    "data_home": ["--data-home", "folder"],
    "headers": ["--no-headers"],
    "max_words": ["--max-words", "9"],
    "target": ["--target", "y"],
    "task": ["--task", "classification"],
    "test_file": ["--test-file", "nonexistent.csv"],
    "text_column": ["--text-column", "t"],
    "unmasked": ["--unmasked"],
}
SOURCE_OF = {
    "csv": ["my.csv"],
    "csv with --text-column": ["my.csv", "--text-column", "t"],
    "openml": ["openml:adult"],
    "parquet": ["my.parquet"],
    "svmlight": ["my.svm"],
}


@pytest.mark.parametrize("kind", data_options.APPLICABLE)
@pytest.mark.parametrize("option", GIVEN)
def test_an_option_applies_or_is_an_error(kind, option):
    source = SOURCE_OF.get(kind, [kind])
    options = parse("--data", *source, *GIVEN[option])
    texts = kind.startswith("csv") and option == "text_column"
    if texts or option in data_options.APPLICABLE[kind]:
        data_options.check_applicable(options)
    else:
        with pytest.raises(InputError, match="--.* does not apply to"):
            data_options.load_all(options)


def test_the_table_of_options_has_all_of_them():
    known = set(vars(parse())) - {"data"}
    assert known == set(GIVEN) == set().union(*data_options.APPLICABLE.values())
    kinds = {each.partition(":")[0] for each in data_options.KINDS}
    assert set(data_options.APPLICABLE) >= kinds | set(data_options.NAMED)


def test_an_option_may_apply_to_one_of_several_sources():
    options = parse("--data", "digits", "newsgroups", "--no-headers")
    data_options.check_applicable(options)


def test_the_test_file_of_texts_is_read(tmp_path):
    path = tmp_path / "my.csv"
    rows = {"text": ["sail wind", "leaf root"] * 20, "y": ["sea", "wood"] * 20}
    pd.DataFrame(rows).to_csv(path, index=False)
    given = ["--data", path, "--text-column", "text", "--target", "y", "--test-file"]
    with pytest.raises(InputError, match="nonexistent.csv does not exist"):
        load(*given, tmp_path / "nonexistent.csv")
    pd.DataFrame(rows)[:3].to_csv(tmp_path / "test.csv", index=False)
    data = load(*given, tmp_path / "test.csv")
    assert [len(part.y) for part in data.parts.values()] == [36, 4, 3]
    assert data.test.y.tolist() == [0, 1, 0]
