import os
import signal
import socket
import subprocess
import sys
import time

import mlflow
import psutil
import pytest

from keras_adaptive import cli
from keras_adaptive.errors import MissingExtraError


def test_an_unknown_experiment_is_told_with_the_nearest(capsys):
    assert cli.main(["run", "sparse_txt"]) == 2
    error = capsys.readouterr().err
    assert "Known experiments: convergence, gallery, generalization" in error
    assert "Did you mean 'sparse_text'?" in error


def test_options_go_to_the_experiment(monkeypatch):
    from keras_adaptive.experiments import sparse_text

    seen = []
    monkeypatch.setattr(
        sparse_text, "main", lambda argv, prog: seen.append((argv, prog)) or 0
    )
    assert cli.main(["run", "sparse_text", "--data", "newsgroups", "--no-headers"]) == 0
    expected = (
        ["--data", "newsgroups", "--no-headers"],
        "keras-adaptive run sparse_text",
    )
    assert seen == [expected]


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (MissingExtraError("install it"), 2, "error: install it"),
    ],
)
def test_how_a_run_may_end(monkeypatch, capsys, error, status, words):
    def run(name, arguments):
        raise error

    monkeypatch.setattr(cli, "run_experiment", run)
    assert cli.main(["run", "sparse_text"]) == status
    assert words in capsys.readouterr().err


def test_no_command_is_an_error(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([])
    assert caught.value.code == 2


class Server:
    """Stands in for the server process: the first wait may be interrupted."""

    commands: list[list[str]] = []
    store = ""
    interrupted = False
    pid = 2**30  # no process has it

    def __init__(self, command, env):
        self.waits = 0
        Server.commands.append(command)
        Server.store = env["MLFLOW_BACKEND_STORE_URI"]

    def wait(self):
        self.waits += 1
        if self.interrupted and self.waits == 1:
            raise KeyboardInterrupt
        return 0


@pytest.fixture
def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.mark.parametrize("interrupted", [False, True])
def test_ui_serves_the_store_on_loopback(monkeypatch, tmp_path, free_port, interrupted):
    monkeypatch.setattr(Server, "commands", [])
    monkeypatch.setattr(Server, "interrupted", interrupted)
    monkeypatch.setattr(subprocess, "Popen", Server)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    assert cli.main(["ui", "--port", free_port]) == 0
    (command,) = Server.commands
    options = dict(zip(command[4::2], command[5::2], strict=True))
    assert options["--host"] == "127.0.0.1"
    assert options["--port"] == free_port
    assert Server.store == mlflow.get_tracking_uri()


@pytest.mark.slow
def test_ui_shows_the_store_and_ends_with_all_its_processes(store, free_port):
    folder, client = store
    client.create_experiment("mine")
    command = [sys.executable, "-m", "keras_adaptive.cli", "ui", "--port", free_port]
    # Some of MLflow's many processes will do.
    few = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_WORKERS": "2"}
    ui = subprocess.Popen(command, cwd=folder, env={**os.environ, **few})
    while not listens(int(free_port)):
        assert ui.poll() is None
        time.sleep(0.1)
    family = psutil.Process(ui.pid).children(recursive=True)
    assert len(family) > 1
    assert not [each for each in family if str(folder) in " ".join(each.cmdline())]
    served = mlflow.MlflowClient(f"http://127.0.0.1:{free_port}")
    assert served.get_experiment_by_name("mine")
    ui.send_signal(signal.SIGTERM)
    assert ui.wait() == 143
    assert not [each for each in family if each.is_running()]
    assert not listens(int(free_port))


def listens(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_ui_on_a_port_in_use(capsys):
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = str(busy.getsockname()[1])
        assert cli.main(["ui", "--port", port]) == 2
    assert f"Port {port}" in capsys.readouterr().err


def test_ui_of_a_server(monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://runs.example")
    assert cli.main(["ui"]) == 2
    assert "http://runs.example" in capsys.readouterr().err


STUDY_LIBRARIES = {"mlflow", "sklearn", "pandas", "matplotlib", "scipy"}


@pytest.mark.slow
def test_help_imports_no_study_library():
    code = f"""
import sys, keras
before = set(sys.modules)
from keras_adaptive import cli
for command in ([], ["ui"], ["run"]):
    try:
        cli.main([*command, "--help"])
    except SystemExit as end:
        print(end.code, sorted({STUDY_LIBRARIES} & (set(sys.modules) - before)))
"""
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert shown.stdout.splitlines().count("0 []") == 3


def test_options_of_compare_are_its_own(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["compare", "--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: keras-adaptive compare ")
    assert "--tuning-seeds N" in shown
    with pytest.raises(SystemExit) as caught:
        cli.main(["compare", "--data", "wine", "--sedes", "3"])
    assert caught.value.code == 2
    assert "unrecognized arguments: --sedes 3" in capsys.readouterr().err


def test_experiments_that_are_not_installed(monkeypatch, capsys):
    monkeypatch.setattr(cli, "EXPERIMENTS", "keras_adaptive.no_experiments")
    assert cli.main(["run", "sparse_text"]) == 2
    assert "run 'pip install -e .' again" in capsys.readouterr().err
