"""Where Lethe's own packages are, whatever stands on the import path before them."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""What holds `lethe`, `harness`, `trainers` and `suites`: a checkout, or the folder that a wheel was installed in."""


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
