"""The driver of a study: the one process that writes its runs."""

from __future__ import annotations

import os
import socket
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

from keras_adaptive.errors import needs_extra

with needs_extra("study"):
    import psutil

STARTED = 19
"""The place of the start time behind the name of a process in Linux's `stat` file."""


@dataclass(frozen=True)
class Driver:
    """A process, told apart from those of all machines and containers.

    Args:
        host: Name of its machine.
        pid: Its number there.
        machine: Identifies the machine, its start and the space of process numbers. It
            is empty where these are not known.
        started: When the process started, by a clock of its machine.
    """

    host: str
    pid: int
    machine: str
    started: str

    def __str__(self) -> str:
        """Returns the process in words."""
        return f"process {self.pid} on {self.host}"

    def has_ended(self) -> bool:
        """Says whether it is proven that the process has ended.

        Only a process of the same machine and the same space of process numbers can
        prove it. Two containers may share a host name and still be strangers.
        """
        if not self.machine or self.machine != this_machine():
            return False
        if not psutil.pid_exists(self.pid):
            return True
        try:
            ended = psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE
            return ended or _started(self.pid) != self.started
        except psutil.NoSuchProcess:
            return True
        except (psutil.Error, OSError):
            return False


def this_driver() -> Driver:
    """Returns this process."""
    pid = os.getpid()
    return Driver(socket.gethostname(), pid, this_machine(), _started(pid))


def this_machine() -> str:
    """Returns what identifies this machine and its space of process numbers."""
    if sys.platform != "linux":
        return f"{socket.gethostname()} {uuid.getnode():x}"
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    # Linux counts from its own start, so setting the clock does not matter.
    if sys.platform == "linux":
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[STARTED]
    return str(psutil.Process(pid).create_time())
