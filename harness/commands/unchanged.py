"""Recognise a finished comparison whose inputs have not changed since, without loading anything.

After a comparison that ended well, a note in the store says what was asked, what this machine decided, and the state of every
file that was read or written: data, model, suites, the code that ran (of Lethe and of every package), runs and report. If all
of this is unchanged, the same command ends at once. Otherwise, or in doubt, it runs as usual.

A file's state is its size, inode, and times of change to the nanosecond. The time at which the system last changed a file's
record cannot be set by a program, so content replaced in place is noticed even where size and modification time are kept.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from harness.bundled import ROOT, embedded, find_suites
from harness.plan.load import resolve_places
from harness.plan.plan import Plan
from harness.recipes.recipe_text import FILE
from harness.store.files import is_local, read_json
from harness.store.hashes import read_hashed, write_hashed
from harness.store.results import open_results
from harness.store.schema import key_of

NOTE = {"folder": str, "shown": str, "roots": list, "files": dict, "machine": dict}
"""Fields of the note."""
SETTLED = 2.0
"""Seconds: a file that changed less than this before it was read may change again within one tick of its clock."""


@dataclasses.dataclass(frozen=True)
class Made:
    """A comparison that need not be made again."""

    folder: Path
    shown: str
    """What was printed at its end."""


def unchanged(plan: Plan) -> Made | None:
    """Return the comparison that this plan has made already; None where anything may be different."""
    path = _note_of(plan)
    try:
        note = read_hashed(path, NOTE) if path is not None else None
    except (ValueError, OSError):
        return None  # a damaged note is none: everything is looked at, and the note written anew
    if note is None or note["files"] != _states(note["roots"]):
        return None
    # The machine last: asking it imports torch.
    from harness.setup.machine import facts

    if note["machine"] != facts(resolve_places(plan)):
        return None
    return Made(Path(note["folder"]), note["shown"])


def remember(plan: Plan, folder: Path, shown: str, begun: float) -> None:
    """Leave the note after a comparison that began at `begun` (seconds since the epoch) and ended well."""
    path, inputs = _note_of(plan), _inputs(plan)
    if path is None or inputs is None:
        return

    # What changed while the comparison ran may not be what it read.
    read = sorted({str(file.resolve()) for file in [*inputs, *_code()]})
    if any(state[-1] > (begun - SETTLED) * 1e9 for state in _states(read).values()):
        return  # it changed while it was read, or just before
    roots = [*read, *(str(file.resolve()) for file in _written(folder))]
    from harness.setup.machine import facts

    note = {"folder": str(folder), "shown": shown, "machine": facts(resolve_places(plan)), "roots": roots}
    write_hashed(path, note | {"files": _states(roots)})


def _note_of(plan: Plan) -> Path | None:
    """Return the path of the note on this plan; None if results are not on a local disk, where files have no such state."""
    store = open_results(plan.out).store.root
    if not is_local(store):
        return None
    return store / f"made-{key_of([dataclasses.asdict(plan), str(Path.cwd())])}.json"


def _states(roots: Iterable[str]) -> dict[str, list[int]]:
    """Return {file: [size, inode, modified, changed]} of every file that is a root or lies below one."""
    states: dict[str, list[int]] = {}
    for root in roots:
        # Folders may gain and lose files: all that lie below count.
        files = [root]
        if os.path.isdir(root):  # noqa: PTH112 (a Path for each of thousands of files takes ten times as long)
            files = []
            for folder, below, names in os.walk(root):
                # What Python writes by itself is not walked into; the others in a fixed order.
                below[:] = sorted(name for name in below if name != "__pycache__")
                files += [f"{folder}/{name}" for name in sorted(names)]
        for file in files:
            try:
                state = os.stat(file)  # noqa: PTH116
            except OSError:
                continue  # a file that is not there is not in the states: it differs where it was there
            states[file] = [state.st_size, state.st_ino, state.st_mtime_ns, state.st_ctime_ns]
    return states


def _code() -> list[Path]:
    """Return every file of code that this process has loaded, and all of Lethe's."""
    # Code that was not loaded cannot have mattered; Lethe's own is small enough to take whole.
    loaded = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    files = [Path(file) for file in loaded if file and not file.startswith(str(ROOT / "harness"))]
    return [ROOT / "harness", ROOT / "trainers", ROOT / "lethe", *files]


def _inputs(plan: Plan) -> list[Path] | None:
    """Return the files and folders that a plan reads; None where one of them may be on the hub, which can change unseen."""
    plan = resolve_places(plan)
    home = embedded()
    named = [*plan.sources, *plan.test_paths, plan.model, plan.general, home.general_dev, plan.rules]
    # Options that may name a file or something that is built in.
    if plan.deepspeed and plan.deepspeed.endswith(".json"):
        named.append(plan.deepspeed)
    if plan.answer_format and plan.answer_format.endswith(".json"):
        named.append(plan.answer_format)
    # Methods in files of the user, and models tuned elsewhere.
    named += [file[1] for file in FILE.finditer(plan.recipes)]
    named += plan.measured_places
    places = [Path(name).expanduser() for name in named if name]
    for name in plan.suite_names:
        suite_files = _suite(name)
        if suite_files is None:
            return None
        places += suite_files
    return places if all(path.exists() for path in places) else None


def _suite(name: str) -> list[Path] | None:
    """Return the folders of a suite; None where its items are the hub's."""
    suites = find_suites()
    suite, _, folder = name.partition(":")
    if suite in suites:
        # Data of the hub may change without a trace here.
        collected = "task" in suites[suite].settings
        if collected and not folder:
            return None
        return [suites[suite].folder, *([Path(folder)] if folder else [])]
    path = Path(name)
    if path.is_dir():
        return [path]
    if path.is_file():
        return [
            path,
            *(other for other in path.parent.iterdir() if other.stem == path.stem or other.suffix in (".py", ".toml")),
        ]
    return None


def _written(folder: Path) -> list[Path]:
    """Return what the comparison has left: its folder but for TensorBoard's, and how each of its runs ended and scored."""
    record = read_json(folder / "comparison.json")
    store = open_results(folder.parent).store
    files = [entry for entry in sorted(folder.iterdir()) if entry.name != "tensorboard"]
    for entry in [*record["rows"], *record["trials"]]:
        files += store.run(entry["key"]).answer_paths
    return list(dict.fromkeys(files))
