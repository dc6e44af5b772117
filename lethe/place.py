"""Where Lethe's own packages are, whatever stands on the import path before them."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""What holds `lethe`, `harness`, `trainers` and `suites`: a checkout, or the folder that a wheel was installed in."""


PACKAGES = ("harness", "trainers", "suites")
"""Top-level packages beside this one. Their names are common ones, so another distribution may bring the same."""


def overwritten() -> list[str]:
    """Return a sentence on each of Lethe's packages that another distribution of the same name has replaced.

    An installer writes both into one folder, the later one over the earlier one; no import order helps there.
    """
    sentences = []
    for name in PACKAGES:
        try:
            first_line = (ROOT / name / "__init__.py").read_text(encoding="utf-8").partition("\n")[0]
        except OSError:
            first_line = ""
        if "Lethe" not in first_line:
            sentences.append(
                f"the package '{name}' in {ROOT} is not Lethe's: another distribution was installed over it; "
                "install Lethe in an environment of its own"
            )
    return sentences


def take_own_harness() -> None:
    """Make `import harness` mean the package beside this one, here and in the processes that this one starts."""
    spec = find_spec("harness")
    if spec is not None and spec.origin and Path(spec.origin).resolve().parent == ROOT / "harness":
        return
    for name in [name for name in sys.modules if name.partition(".")[0] == "harness"]:
        del sys.modules[name]
    sys.path.insert(0, str(ROOT))
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *([inherited] if inherited else [])])
