"""What reading, checking and splitting a large data file costs: seconds of one core, and memory.

    python -m tests.bench.data [records ...]

Records are of about 700 bytes, a hundredth of them near-duplicates of others; one file more is a single conversation of
3,000 turns, and one a cluster of 5,000 records that are nearly the same.
"""

from __future__ import annotations

import itertools
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SIZES = (30_000, 300_000)
SYLLABLES = ("bcdfgklmnprst", ("an", "er", "il", "os", "ud", "ar", "in"), ("a", "e", "o", "ty", "s"))
WORDS = ["".join(parts) for parts in itertools.product(*SYLLABLES)]


def records(number: int) -> Iterator[dict[str, Any]]:
    draw = random.Random(0)
    last: list[str] = []
    for place in range(number):
        words = draw.choices(WORDS, k=110)
        if place % 100 == 99:  # a near-duplicate of the one before
            words = [*last[:-1], "changed"]
        last = words
        question, answer = " ".join(words[:50]), " ".join(words[50:])
        yield {"instruction": f"Explain number {place}: {question}?", "input": "", "output": answer + ".", "id": place}


def cluster(number: int) -> Iterator[dict[str, Any]]:
    words = random.Random(1).choices(WORDS, k=200)
    for place in range(number):
        said = words.copy()
        said[place % 200] = f"other{place}"
        yield {"prompt": " ".join(said), "completion": "Yes."}


def conversation(turns: int) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {
        "messages": [{"role": roles[place % 2], "content": f"This is what is said in turn {place}."} for place in range(turns)]
    }


def measure(path: str) -> dict[str, float]:
    """Seconds of this process, and its peak in MiB."""
    from harness.data.split import load_dataset

    before = time.process_time()
    load_dataset(path)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": time.process_time() - before, "MiB": peak}


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        from harness.doing import spoken

        with spoken():
            found = measure(sys.argv[2])
        print(json.dumps(found))
        return
    made = {f"{size:,} records": records(size) for size in map(int, sys.argv[1:] or SIZES)}
    made["a cluster of 5,000"] = cluster(5_000)
    made["3,000 turns"] = iter([conversation(3_000), *records(100)])
    print("file".rjust(20), "MB".rjust(8), "seconds".rjust(8), "MiB".rjust(8))
    for name, rows in made.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "data.json"
            with path.open("w") as file:
                file.write("[\n")
                for place, row in enumerate(rows):
                    file.write((",\n" if place else "") + json.dumps(row))
                file.write("\n]\n")
            command = [sys.executable, "-m", "tests.bench.data", "--measure", str(path)]
            found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
            size = path.stat().st_size / 1e6
            print(f"{name:>20} {size:8.1f} {found['seconds']:8.1f} {found['MiB']:8.0f}", flush=True)


if __name__ == "__main__":
    main()
