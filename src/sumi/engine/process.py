"""Processes that an engine starts: Python, with the sumi that it is itself of, at the other end of a line."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

SOURCE = Path(__file__).parents[2]
"""Where this sumi is imported from: that of the processes is the same, whether or not it is installed."""


def launch(
    module: str, told: Callable[[int], str], *, apart: bool = False, **environment: str
) -> tuple[subprocess.Popen[bytes], Connection]:
    """Starts a module, and the line to it. OSError if the system does not let it.

    told: its argument, by the number of its end of the line. apart: what is sent to this program's whole group, as Ctrl-C is, is not sent
    to it. environment: more variables.
    """
    ours, theirs = socket.socketpair()
    path = os.pathsep.join(part for part in (str(SOURCE), os.environ.get("PYTHONPATH")) if part)
    with theirs:
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", module, told(theirs.fileno())],
                env={**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1", **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=apart,
            )
        except BaseException:
            ours.close()
            raise
    return process, Connection(ours.detach())
