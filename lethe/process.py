"""A comparison in a process of its own: started by the caller, and what happens inside it."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lethe.errors import InternalError, PlanError
from lethe.place import ROOT, overwritten, take_own_harness

CODE = "import sys; sys.path.append(sys.argv.pop(1)); from lethe.process import inside; sys.exit(inside(sys.argv[1]))"
"""What the process runs: Lethe is found by its place, after everything that Python itself puts on the path."""
PATIENCE = 30.0
"""Seconds that an interrupted comparison has to end its runs (a guess)."""


def carried_out(arguments: Mapping[str, Any]) -> Any:
    """Run a comparison and return its table (pandas).

    Raises PlanError with all faults where it cannot be done as asked, InternalError where Lethe itself failed.
    """
    clashes = overwritten()
    if clashes:
        raise PlanError(*clashes)
    options = {name: _plain(value) for name, value in arguments.items() if value is not None}
    with tempfile.TemporaryDirectory(prefix="lethe-") as folder:
        exchange = Path(folder)
        (exchange / "asked.json").write_text(json.dumps({"options": options, "path": _own_path()}), encoding="utf-8")
        code = _run([sys.executable, "-P", "-c", CODE, str(ROOT), folder])
        if (exchange / "table.pickle").exists():
            return pickle.loads((exchange / "table.pickle").read_bytes())
        faults_file = exchange / "faults.json"
        if not faults_file.exists():
            raise InternalError(f"the comparison's process ended with exit code {code} and left no word; run it again")
        fault = json.loads(faults_file.read_text(encoding="utf-8"))
    if fault["code"] == 2:
        raise PlanError(*fault["faults"])
    raise InternalError("\n".join(fault["faults"]))


def _plain(value: Any) -> Any:
    """An option as JSON: paths as text, and so in lists."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _own_path() -> list[str]:
    """The caller's import path, on which files of methods may rely."""
    return [str(Path(entry).resolve()) for entry in sys.path]


def _run(command: list[str]) -> int:
    """Run the process to its end, passing its output on; an interrupt ends it first."""
    shared = _terminal(sys.stdout) and _terminal(sys.stderr)
    output: Any = None if shared else subprocess.PIPE
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=output, stderr=output, text=True, encoding="utf-8", errors="replace"
    )
    streams = [] if shared else [(process.stdout, sys.stdout), (process.stderr, sys.stderr)]
    readers = [threading.Thread(target=_pass_on, args=pair, daemon=True) for pair in streams]
    for reader in readers:
        reader.start()
    try:
        process.wait()
    except BaseException:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        process.kill()
        raise
    finally:
        if process.stdin:
            process.stdin.close()
        for reader in readers:
            reader.join(PATIENCE)
    return process.returncode


def _terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty()) and stream.fileno() in (1, 2)
    except (AttributeError, OSError, ValueError):
        return False


def _pass_on(source: Any, target: Any) -> None:
    """Write what a process says where the caller's own output goes: into a notebook's cell, for one."""
    for line in source:
        target.write(line)
        target.flush()


# --- inside the process ----------------------------------------------------------------------------------------------


def inside(folder: str) -> int:
    """Carry out what `asked.json` says and leave a table or faults beside it; returns the exit code."""
    threading.Thread(target=_end_with_the_caller, daemon=True).start()
    exchange = Path(folder)
    request = json.loads((exchange / "asked.json").read_text(encoding="utf-8"))
    sys.path.extend(entry for entry in request["path"] if entry not in sys.path)
    take_own_harness()
    from harness.interruption import end_soon_after_interrupts, leave

    end_soon_after_interrupts()
    from harness.commands.faults import handled, say

    def work() -> int:
        from harness.plan.load import make_plan

        options = request["options"]
        file = options.pop("plan", None)
        quiet = options.pop("quiet", False)
        plan = make_plan(options, file)

        from harness.commands.compare import run

        outcome = run(plan, quiet)
        say(1, outcome.failed)
        (exchange / "table.pickle").write_bytes(pickle.dumps(outcome.report.table))
        return 0

    def tell(code: int, faults: list[str]) -> None:
        (exchange / "faults.json").write_text(json.dumps({"code": code, "faults": faults}), encoding="utf-8")

    return leave(handled(work, tell))


def _end_with_the_caller() -> None:
    """End this process where the one that started it is gone: nobody waits for its table any more."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)
