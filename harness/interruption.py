"""Ctrl-C ends a command within seconds, wherever it is. No torch here.

Python raises KeyboardInterrupt between two steps of its own code. A library may be in the middle of a long computation then, or
may swallow what is raised in a callback or a destructor. So a thread waits a little after the signal, and ends the process and
those that it has started by force. Nothing is lost: every file is written whole or not at all, and the same command goes on
where it was, as after a kill.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import threading
import time
from contextlib import suppress

import psutil

PATIENCE = 2.0
"""Seconds that a command has to end by itself, and then its processes."""
SENTENCE = "lethe: interrupted; the same command goes on where it was\n"
INTERRUPTED = 130
"""Exit code."""

_told = threading.Event()


def tell() -> None:
    """Say on stderr that the command was interrupted."""
    _told.set()
    print(SENTENCE, end="", file=sys.stderr)


def end_soon_after_interrupts() -> None:
    """Let SIGINT end this process within seconds from here on; a second one ends it at once. For a command's main thread."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        return  # started in the background: whoever did so wants it to go on
    ours, systems = socket.socketpair()
    systems.setblocking(False)

    # The system writes the signal's number there at once, whatever the main thread is doing.
    signal.set_wakeup_fd(systems.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_end, args=(ours, systems), daemon=True).start()


def leave(code: int) -> int:
    """Return a command's exit code, for the process to end with; one that was interrupted ends here.

    Python would first free all that was loaded, which takes a second and more, and no other thread runs meanwhile.
    """
    if code != INTERRUPTED:
        return code
    end_processes_below(os.getpid())
    _remove_sockets()
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _end(ours: socket.socket, _systems: socket.socket) -> None:
    """Wait for an interrupt, and then for the command to end by itself; else end it."""
    signals = b""
    while signal.SIGINT not in signals:
        signals = ours.recv(64)

    # A second one may have come with the first.
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and signals.count(signal.SIGINT) < 2:
        ours.settimeout(max(0.01, deadline - time.monotonic()))
        with suppress(TimeoutError):
            signals += ours.recv(64)
    if not _told.is_set():
        with suppress(OSError):
            os.write(2, SENTENCE.encode())  # the main thread may hold the lock of sys.stderr
    end_processes_below(os.getpid())
    _remove_sockets()
    os._exit(INTERRUPTED)


def _remove_sockets() -> None:
    """Remove the folder in which processes met; where Python ends by itself, it does so."""
    if "multiprocessing.forkserver" in sys.modules:
        from multiprocessing.util import get_temp_dir

        shutil.rmtree(get_temp_dir(), ignore_errors=True)


def end_processes_below(process: int) -> None:
    """Kill all descendants of a process."""
    with suppress(psutil.Error):
        for child in psutil.Process(process).children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
