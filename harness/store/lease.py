"""Leases: of all processes on all machines that share a store, one at a time makes a run.

A lease is a file `leases/<n>.json` of the run. It is created only if it does not exist, which local and network file systems
and object stores guarantee. Its holder rewrites it with a higher beat while it works. The highest number counts. The run is
free if that lease was returned, if its process is known to have ended (on the same host), or if its beat has not changed for
`LEASE` seconds of the observer's own clock. Whoever then creates number n + 1 holds it. Files stay, so no number is used
twice, and they tell who made the run, and where.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from harness.store.files import create, names, read_json, write_json
from harness.store.provenance import host
from harness.store.runs import LEASES

LEASE = 60.0
"""Seconds without a beat after which a holder on another host counts as lost."""
PERIOD = 10.0
"""Seconds between two beats."""
LOOK = 1.0
"""Seconds between two looks at a lease that is waited for."""


class Lost(Exception):
    """This process was silent for so long that another one may have taken the run over: it must write nothing more."""


class Watch:
    """Which runs others are at, as seen from here."""

    def __init__(self) -> None:
        self.seen: dict[str, tuple[Any, float]] = {}

    def free(self, folder: Path) -> int | None:
        """Return the number of the next lease of the run; None while another process holds it."""
        # The files stay, so the highest number is the present holder.
        taken = names(folder / LEASES)
        if not taken:
            return 1
        number = int(taken[-1].split(".")[0])
        record = _read(folder / LEASES / taken[-1])

        # Given back, or its process is gone, or it has been silent for too long.
        over = record.get("released") or _gone(record) or self._silent(str(folder), number, record)
        return number + 1 if over else None

    def _silent(self, folder: str, number: int, record: Mapping[str, Any]) -> bool:
        # Only this process's own clock counts: clocks of two machines may differ by hours.
        beat, now = (number, record.get("beat")), time.monotonic()
        if self.seen.get(folder, (None, 0.0))[0] != beat:
            self.seen[folder] = beat, now
        return now - self.seen[folder][1] > LEASE


def _read(path: Path) -> dict[str, Any]:
    """Return a lease; one that is just being written, or damaged, says nothing yet."""
    try:
        record = read_json(path)
    except json.JSONDecodeError:
        return {}
    return record if isinstance(record, dict) else {}


def _gone(record: Mapping[str, Any]) -> bool:
    """Return whether the holder was a process of this host that has ended."""
    # A damaged lease tells no process: its silence alone ends it.
    whole = isinstance(record.get("pid"), int) and isinstance(record.get("began"), float)
    if record.get("host") != host() or not whole:
        return False
    try:
        # The same number may be another process by now: the time at which it began tells.
        holder = psutil.Process(record["pid"])
        another = abs(holder.create_time() - record["began"]) > 5  # its number was given again; 5 s: clocks are set
        return another or holder.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Lease:
    """A run taken by this process."""

    def __init__(self, folder: Path, number: int):
        self.path = folder / LEASES / f"{number:06d}.json"
        self.next = folder / LEASES / f"{number + 1:06d}.json"
        began = psutil.Process().create_time()
        self.record = {"host": host(), "pid": os.getpid(), "began": began, "beat": 0, "released": False}
        self.last, self.lost, self.ended = time.monotonic(), False, threading.Event()

    def take(self) -> bool:
        """Return whether this process was the first to take it."""
        return create(self.path, json.dumps(self.record))

    def check(self) -> None:
        """Raise `Lost` where the run may be another process's by now."""
        if self.lost or time.monotonic() - self.last > LEASE:
            raise Lost(f"{self.path}: another process may have taken this run over")

    def beat(self) -> None:
        """Rewrite the lease from time to time; in a thread of its own."""
        while not self.ended.wait(PERIOD):
            try:
                self.lost = self.lost or self.next.exists()
                self._write(beat=self.record["beat"] + 1)
            except OSError:  # the store does not answer: if that lasts, `check` says so
                continue
            self.last = time.monotonic()

    def release(self) -> None:
        """Give it back."""
        self._write(released=True)

    def _write(self, **changes: Any) -> None:
        self.record |= changes
        write_json(self.path, self.record)


@contextmanager
def leased(folder: Path) -> Iterator[Lease]:
    """Hold a run's folder against all other processes inside; one that is at it is waited for."""
    watch = Watch()
    while (number := watch.free(folder)) is None or not (lease := Lease(folder, number)).take():
        time.sleep(LOOK)

    # The beat goes on while the run computes, and ends with this process however it ends.
    beating = threading.Thread(target=lease.beat, daemon=True)
    beating.start()
    try:
        yield lease
    finally:
        lease.ended.set()
        beating.join()
        lease.release()
