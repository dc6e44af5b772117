"""`<name>.toml` beside `<name>.jsonl`: settings of all items of the file, where they differ from the defaults."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from harness.errors import PlanError, raise_faults
from harness.spelling import did_you_mean
from harness.store.opening import read_given_json, read_given_toml, stem_of
from harness.text.rules import parse_rules
from harness.vocabulary import Area

Scores = Mapping[str, float]


@dataclass(frozen=True)
class Sidecar:
    """The settings of a JSONL suite; every one may be left out."""

    type: str = ""
    """How rows that do not say it themselves are scored."""
    family: str = ""
    """Default: the file's name."""
    seen: bool = False
    """Whether methods may draw on this family."""
    shots: int = 0
    """Few-shot examples before each item; those of its own subject where there are any."""
    examples: str = ""
    """A JSONL file of them, beside this one."""
    dev: int = 0
    """Without `examples`: so many items, drawn by content and `seed`, are the examples and are not evaluated."""
    seed: int = 0
    scorer: str = ""
    """`file.py:function`, a scorer of one's own: (output, row) -> a number, true or false, or {metric: number}."""
    tolerance: Any = 0
    """Of `numeric`: 0.5, or "1%" of the answer."""
    unit: str = ""
    """Of `numeric`: what the answer is counted in, as kg or USD."""
    max_tokens: int = 0
    """Tokens to generate at most; default: a quarter more than the longest answer has."""
    until: list[str] = field(default_factory=list)
    """Texts that end an answer, besides the model's own stop tokens."""
    rules: list[Any] = field(default_factory=list)
    """Rules for every output, as harness/text/rules.py has them; for the type constraint."""
    area: str = ""
    """`can`, `will` or `how`: the column group of its family; default: `how` for constraints, `can` for all else."""
    tools: str = ""
    """A JSON file beside this one, with the tools that every item may call."""
    filler: str = ""
    """A text file beside this one, of which items with `fill` get as much as they ask for."""
    thinking: bool = False
    """Whether items are asked with thoughts, where the chat template knows of any; their scorer reads `raw` in the row."""
    fluency: bool = False
    """Whether the scorer is told, as `base_bits_per_byte` in the row, how the base reads the answer."""


def read_sidecar(path: Path) -> Sidecar:
    """Return the sidecar of a JSONL file; all defaults where there is none. Raises PlanError with all faults."""
    file = path.with_name(f"{stem_of(path)}.toml")
    if not os.path.lexists(file):
        return Sidecar()
    options = read_given_toml(file, str(file))

    # Each option has the type of its default; a tolerance is a number or a share.
    types = {f.name: type(getattr(Sidecar(), f.name)) for f in fields(Sidecar)}
    faults = []
    for name, value in options.items():
        if name not in types:
            hint = did_you_mean(name, types, f"options are {', '.join(types)}")
            faults.append(f"{file.name}: there is no '{name}'; {hint}")
        elif name != "tolerance" and type(value) is not types[name]:
            faults.append(f"{file.name}: '{name}' is {value!r}; give {types[name].__name__}")
    raise_faults(faults)

    # What one option says must fit what the others say.
    sidecar = Sidecar(**options)
    if sidecar.shots and not sidecar.examples and sidecar.dev < sidecar.shots:
        need = f"`examples` (a JSONL file), or `dev` of {sidecar.shots} or more"
        raise PlanError(f"{file.name}: {sidecar.shots} shots need {need}")
    parse_rules(sidecar.rules, f"{file.name} rules")
    if sidecar.area and sidecar.area not in list(Area):
        raise PlanError(f"{file.name}: 'area' is {sidecar.area!r}; use one of {', '.join(Area)}")
    if (sidecar.thinking or sidecar.fluency) and not sidecar.scorer:
        raise PlanError(f'{file.name}: thinking and fluency are told to a scorer; name one: scorer = "file.py:function"')
    return sidecar


def read_tools(file: Path) -> str:
    """Return a file of tools as one line of JSON: a list of {type: function, function: {name, description, parameters}}."""
    tools = read_given_json(file, f"tools file '{file}'")
    # Tools are called by name, so each needs one of its own.
    names = []
    for tool in tools if isinstance(tools, list) else []:
        function = tool.get("function") if isinstance(tool, dict) else None
        names.append(function.get("name") if isinstance(function, dict) else None)
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        form = '[{"type": "function", "function": {"name": ..., "description": ..., "parameters": {JSON Schema}}}, ...]'
        raise PlanError(f"tools file '{file}' is no list of tools with a name each; write {form}")
    return json.dumps(tools, ensure_ascii=False)


@dataclass(frozen=True)
class Scorer:
    """A user's Python function that scores one output."""

    text: str
    function: Callable[[str, Mapping[str, Any]], Any] = field(repr=False)
    source: str
    """Hash of its file: scores of another version are other scores."""
    directions: Mapping[str, bool | None] = field(default_factory=dict)
    """Metric -> whether higher is better (None: neither), as its file's `DIRECTIONS` says it; of others higher is."""

    def scores(self, output: str, row: Mapping[str, Any]) -> dict[str, float]:
        """Return {metric: number}; a plain number is the metric `score`."""
        result = self.function(str(output), row)
        named: Mapping[str, Any] = result if isinstance(result, Mapping) and result else {"score": result}
        return {str(name): float(value) for name, value in named.items()}

    def try_on(self, row: Mapping[str, Any], where: str) -> list[str]:
        """Return the metrics it gives for an empty output. Raises PlanError where it fails: better now than after training."""
        try:
            return list(self.scores("", row))
        except Exception as error:  # the user's own code
            raise PlanError(
                f"{where}: scorer {self.text} fails on an empty output ({type(error).__name__}: {error})"
            ) from error


def load_scorer(text: str, folder: Path) -> Scorer:
    """Return the function that `file.py:function` names, the file beside the suite."""
    name, _, wanted = text.partition(":")
    file = folder / name
    if not file.is_file() or not wanted:
        raise PlanError(f"scorer '{text}' is not found in {folder}; give file.py:function, the file beside the suite")

    # Two suites may have scorers in files of one name.
    module_name = f"lethe_scorer_{file.stem}_{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
        function = getattr(module, wanted)
    except Exception as error:
        raise PlanError(f"scorer '{text}' cannot be loaded ({type(error).__name__}: {error})") from error
    source = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    return Scorer(text, function, source, getattr(module, "DIRECTIONS", {}))
