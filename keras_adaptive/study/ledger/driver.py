"""The driver of a study: the one process that writes its runs."""

from __future__ import annotations

import socket
from contextlib import suppress

from keras_adaptive.errors import needs_extra

with needs_extra("study"):
    import psutil


def this_process() -> str:
    """Returns a text that identifies this process among those of all machines."""
    process = psutil.Process()
    return f"{socket.gethostname()} {process.pid} {process.create_time()}"


def is_running(driver: str) -> bool:
    """Says whether a process of this machine is still running.

    Args:
        driver: The process, as `this_process` identified it.
    """
    host, _, rest = driver.partition(" ")
    pid, _, created = rest.partition(" ")
    if host != socket.gethostname() or not pid:
        return False
    with suppress(psutil.Error):
        return str(psutil.Process(int(pid)).create_time()) == created
    return False
