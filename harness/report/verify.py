"""`lethe verify`: read a whole store, and say what is no longer as it was written. No torch here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from harness.errors import PlanError
from harness.store.comparisons import report_faults
from harness.store.files import names, read_record
from harness.store.hashes import ASIDE
from harness.store.results import Results
from harness.store.runs import RunFolder


@dataclass
class Verified:
    """What a store was found to hold."""

    comparisons: int = 0
    runs: int = 0
    files: int = 0
    """Files that have hashes."""
    unhashed: list[str] = field(default_factory=list)
    """Runs without any hashes, of an older version."""
    unused: int = 0
    """Runs that no comparison here names."""
    aside: list[str] = field(default_factory=list)
    """Damaged files that were set aside before."""
    faults: list[str] = field(default_factory=list)
    """A sentence for each damage, with the cure."""

    def lines(self) -> Iterator[str]:
        """Yield what to print."""
        yield from self.faults
        if self.unhashed:
            why = "an older Lethe wrote them, or hashes.json was removed"
            yield f"{len(self.unhashed)} runs have no hashes ({why}): only their form was looked at"
        for path in self.aside:
            yield f"{path} was damaged and set aside; remove it when nobody needs it"
        unused = f", {self.unused} of them in no comparison here" if self.unused else ""
        result = f"{len(self.faults)} damaged" if self.faults else "all as they were written"
        yield f"{self.comparisons} comparisons, {self.runs} runs{unused}, {self.files:,} files with hashes: {result}"


def verify(results: Results) -> Verified:
    """Read every comparison and every run of a store, weights and models included.

    Raises PlanError where there is no store: nothing would be damaged there either.
    """
    if not (results.names() or results.store.keys()):
        raise PlanError(f"{results.root} holds no comparison and no run; give --out the folder that `lethe compare` wrote to")
    verified = Verified()
    named: set[str] = set()
    for name in results.names():
        verified.comparisons += 1
        try:
            record = read_record(results.folder(name)) or {}
        except PlanError as error:
            verified.faults += error.faults
            continue
        verified.faults += report_faults(results.folder(name))
        entries = [*record["rows"], *(record.get("trials") or [])]
        named |= {entry["key"] for entry in entries}
        absent = {entry["key"] for entry in entries if not results.store.run(entry["key"]).path.exists()}
        verified.faults += [f"{results.store.run(key).path} is gone, and {name} has a row of it" for key in sorted(absent)]
    for key in sorted(results.store.keys()):
        verified.runs += 1
        verified.unused += key not in named
        _verify_run(results.store.run(key), verified)
    return verified


def _verify_run(run: RunFolder, verified: Verified) -> None:
    try:
        hashes = run.hashes.known()
    except PlanError as error:
        verified.faults += error.faults
        return
    verified.files += len(hashes)
    if not hashes:
        verified.unhashed.append(run.key)
    damaged = list(chain.from_iterable(damage.faults for damage in run.damages()))
    verified.faults += damaged
    if not damaged:
        try:
            for name in ("run", "ledger", "status"):
                run.read(name)
        except PlanError as error:  # of another version
            verified.faults += error.faults
    for folder in (run.path, run.evaluations, run.weights_folder):
        verified.aside += [str(folder / name) for name in names(folder) if name.endswith(ASIDE)]
