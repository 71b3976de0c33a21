"""A PostgreSQL cluster and MLflow's server, in a folder and on loopback."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import harness

LOOPBACK = "127.0.0.1"
DEBIAN = Path("/usr/lib/postgresql")
"""Where Debian's packages put programs that are not in the path, by version."""

UNPRIVILEGED = ("postgres", "nobody")
"""PostgreSQL refuses to run as root, and runs as the first of these users instead."""

SECONDS_TO_START = 120
SECONDS_TO_END = 20


def missing() -> str:
    """Returns what is missing for MLflow's server on PostgreSQL; empty if nothing."""
    absent = [name for name in ("initdb", "pg_ctl") if not _program(name)]
    if absent:
        return f"PostgreSQL is not installed: there is no {' and no '.join(absent)}"
    if not harness.installed("psycopg2"):
        return "psycopg2 is not installed"
    return ""


def _program(name: str) -> str | None:
    """Returns the path of a program of PostgreSQL, if there is one."""
    newest_first = sorted(DEBIAN.glob("*/bin"), key=lambda each: -int(each.parent.name))
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, newest_first)])
    return shutil.which(name, path=path)


def free_port() -> int:
    """Returns a port of loopback that nobody listens to."""
    with socket.socket() as listening:
        listening.bind((LOOPBACK, 0))
        return int(listening.getsockname()[1])


class Postgres:
    """A cluster of PostgreSQL.

    Args:
        folder: Holds the data; it must exist, and all users must be able to enter it.
    """

    def __init__(self, folder: Path) -> None:
        """Makes the cluster, without starting it."""
        self.port = free_port()
        self._folder = folder / "postgres"
        self._folder.mkdir()
        self._user: dict[str, int | list[int]] = {}
        if os.geteuid() == 0:
            names = {each.pw_name: each for each in pwd.getpwall()}
            user = next(names[name] for name in UNPRIVILEGED if name in names)
            os.chown(self._folder, user.pw_uid, user.pw_gid)
            groups: list[int] = []
            self._user = {
                "user": user.pw_uid,
                "group": user.pw_gid,
                "extra_groups": groups,
            }
        options = ["--auth=trust", "--username=mlflow", "--encoding=UTF8"]
        self._call("initdb", *options, "--locale=C", "--no-sync")

    @property
    def uri(self) -> str:
        """The address of the database."""
        return f"postgresql+psycopg2://mlflow@{LOOPBACK}:{self.port}/postgres"

    def start(self) -> None:
        """Starts the cluster and waits until it answers."""
        options = f"-p {self.port} -c listen_addresses={LOOPBACK}"
        options += " -c unix_socket_directories=''"
        log = str(self._folder / "log")
        self._call("pg_ctl", "--wait", f"--log={log}", f"--options={options}", "start")

    def stop(self) -> None:
        """Ends the cluster."""
        self._call("pg_ctl", "--wait", "--mode=fast", "stop")

    def _call(self, name: str, *arguments: str) -> None:
        program = _program(name)
        assert program is not None
        subprocess.run(
            [program, f"--pgdata={self._folder / 'data'}", *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd=self._folder,
            **self._user,
        )


class Server:
    """MLflow's server.

    Args:
        database: The address of its database.
        folder: Takes the artifacts.
    """

    def __init__(self, database: str, folder: Path) -> None:
        """Chooses the port, without starting the server."""
        self._database = database
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._port = free_port()

    @property
    def uri(self) -> str:
        """The address of the server."""
        return f"http://{LOOPBACK}:{self._port}"

    def start(self) -> None:
        """Starts the server and waits until it answers.

        Raises:
            RuntimeError: If it does not answer.
        """
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
        command += ["--host", LOOPBACK, "--port", str(self._port)]
        command += ["--backend-store-uri", self._database]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        log = self._folder / "server.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                start_new_session=True,
            )
        end = time.monotonic() + SECONDS_TO_START
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise RuntimeError(f"The server is not up:\n{log.read_text()}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                return True
        except OSError:
            return False

    def stop(self) -> None:
        """Ends the server and the processes that it has started."""
        if self._process is None:
            return
        process, self._process = self._process, None
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
                process.wait(SECONDS_TO_END)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue


@contextmanager
def server_on_postgres() -> Iterator[tuple[Server, Postgres]]:
    """Runs MLflow's server on PostgreSQL for the length of a block.

    Yields:
        The server and its database, both started.
    """
    with tempfile.TemporaryDirectory(prefix="mlflow-server-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        postgres = Postgres(folder)
        postgres.start()
        try:
            server = Server(postgres.uri, folder)
            try:
                server.start()
                yield server, postgres
            finally:
                server.stop()
        finally:
            postgres.stop()
