"""Temporary folders of dead processes go, those of living ones stay."""

import os
import subprocess
import sys
import tempfile
import textwrap

import pytest

pytest.importorskip("fcntl")

from keras_adaptive.study.execution.scratch import scratch_folder

OWNER = """
    import sys, time
    from keras_adaptive.study.execution.scratch import scratch_folder
    with scratch_folder() as folder:
        print(folder, flush=True)
        time.sleep(600)
"""


def test_only_what_is_provably_dead_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    without_lock = tmp_path / "keras-adaptive-of-before"
    without_lock.mkdir()
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OWNER)],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with owner:
        name = owner.stdout.readline().strip()
        with scratch_folder() as own:
            assert os.path.isdir(name)
        assert not own.exists()
        owner.kill()
    assert os.path.isdir(name)
    with scratch_folder():
        assert not os.path.exists(name)
    assert without_lock.is_dir()
