"""Rules that an output keeps or breaks: required and forbidden patterns, a JSON schema, bounds on numbers. No torch here.

    rules:
      - name: disclaimer              # optional
        when: "invest|buy"            # optional: the rule is about prompts in which this is found
        required: "not (financial )?advice"
      - forbidden: ["(?i)guaranteed", "risk-free"]
      - schema: {type: object, required: [amount]}
      - bounds: {find: "rate of ([0-9.]+) ?%", low: 0, high: 25}

Each rule has one of the four. Patterns are Python regular expressions, found anywhere: all `required` ones must be, no
`forbidden` one may. `schema` is JSON Schema over the whole output, or over its one fenced block. `bounds` are on every number
that `find` finds (its first group, where it has one; without `find`, on every number), before its unit: 12 for 12 %.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from harness.errors import PlanError, raise_faults
from harness.text import rule_schemas
from harness.text.numbers import numbers
from harness.text.rule_schemas import compiled, fits_schema, obeys, schema_faults, search, storable_fault

KINDS = ("required", "forbidden", "schema", "bounds")
FIELDS = ("name", "when", *KINDS)
SHOWN = 100
"""Characters of a path that are shown where it cannot be one."""


@dataclass(frozen=True)
class Rule:
    """One checked rule."""

    name: str
    kind: str
    value: Any
    """Patterns, a schema, or {find, low, high}."""
    when: str = ""

    def keeps(self, output: str, prompt: str = "") -> bool | None:
        """Return whether the output keeps the rule; None where the rule is not about this prompt."""
        return self.judge(output, prompt).kept

    def judge(self, output: str, prompt: str = "") -> Judgement:
        """Return whether the output keeps the rule. One that takes too long to judge does not, and the judgement says so."""
        try:
            return Judgement(self._keeps(output, prompt), self.name)
        except TimeoutError:
            return Judgement(False, f"{self.name} (not judged within {rule_schemas.PATIENCE:g} s a pattern)")
        except RecursionError:
            return Judgement(False, f"{self.name} (nested too deeply to be judged)")

    def _keeps(self, output: str, prompt: str) -> bool | None:
        if self.when and not search(self.when, prompt):
            return None
        if self.kind == "required":
            return all(search(pattern, output) for pattern in self.value)
        if self.kind == "forbidden":
            return not any(search(pattern, output) for pattern in self.value)
        return fits_schema(self.value, output) if self.kind == "schema" else _inside(self.value, output)


@dataclass(frozen=True)
class Judgement:
    """What a rule says of an output."""

    kept: bool | None
    """None where the rule is not about the prompt."""
    name: str
    """The rule's name, and why it could not be judged where that is so."""


def broken(rules: Sequence[Rule], output: str, prompt: str = "") -> list[str]:
    """Return names of the rules that the output breaks."""
    judgements = [rule.judge(output, prompt) for rule in rules]
    return [judgement.name for judgement in judgements if judgement.kept is False]


def _inside(bounds: Mapping[str, Any], output: str) -> bool:
    # Without `find`, every number of the output is bounded.
    texts = [output]
    if "find" in bounds:
        matches = compiled(bounds["find"]).finditer(output, timeout=rule_schemas.PATIENCE)
        texts = [(match[1] if match.re.groups else match[0]) or "" for match in matches]
    values = [number.value for number in chain.from_iterable(map(numbers, texts))]
    return all(bounds.get("low", -math.inf) <= value <= bounds.get("high", math.inf) for value in values)


# --- reading ---------------------------------------------------------------------------------------------------------


def _text_of(path: str, source: str) -> str:
    """Return a file's text. Raises PlanError where it is a pipe or a device, from which reading could wait for ever."""
    file = Path(path)
    if file.exists() and not (file.is_file() or file.is_dir()):
        raise PlanError(f"{source} is a pipe or a device; write it to a file and name that")
    return file.read_text(encoding="utf-8")


def read_rules(path: str) -> list[dict[str, Any]]:
    """Return the rules of a YAML file, checked; as `parse_rules` takes them."""
    import yaml

    try:
        given = yaml.safe_load(_text_of(path, f"rules file '{path[:SHOWN]}'"))
    except OSError as error:
        raise PlanError(f"rules file '{path[:SHOWN]}' cannot be read ({error.strerror}); name a YAML file") from None
    except UnicodeDecodeError:
        raise PlanError(f"rules file '{path}' is not UTF-8 text; save it as UTF-8") from None
    except yaml.YAMLError as error:
        raise PlanError(f"rules file '{path}' is not YAML: {' '.join(str(error).split())}") from None
    except (ValueError, RecursionError) as error:  # a date that is none, a number of too many digits, too much nesting
        raise PlanError(f"rules file '{path}' cannot be read ({error}); mend it") from None
    if fault := storable_fault(given):
        raise PlanError(f"rules file '{path}' {fault}")
    rules = given.get("rules") if isinstance(given, dict) else given
    if not isinstance(rules, list) or not rules:
        raise PlanError(f"rules file '{path}' has no rules; write a list of them, under `rules:`")
    parse_rules(rules, path)
    return rules


def parse_rules(rules: Sequence[Any], where: str = "rules") -> list[Rule]:
    """Return checked rules. Raises one PlanError with all faults."""
    faults: list[str] = []
    parsed = [_parse(rule, f"{where} {number}", number, faults) for number, rule in enumerate(rules, 1)]

    # Names are columns of a table, so no two may be equal.
    names = [rule.name for rule in parsed]
    faults += [f"{where}: two rules are named '{name}'; rename one" for name in sorted(set(names)) if names.count(name) > 1]
    raise_faults(faults)
    return parsed


def _parse(rule: Any, where: str, number: int, faults: list[str]) -> Rule:
    # A rule with two checks would be broken without saying by which.
    given = [kind for kind in KINDS if isinstance(rule, dict) and kind in rule]
    if len(given) != 1:
        faults.append(f"{where}: has {' and '.join(given) or 'no check'}; give it one of {', '.join(KINDS)}")
        return Rule(f"rule {number}", "required", [])
    faults += [f"{where}: there is no field '{name}'; use {', '.join(FIELDS)}" for name in rule if name not in FIELDS]
    kind, value = given[0], rule[given[0]]
    if kind in ("required", "forbidden"):
        # One pattern may be written without a list.
        value = [value] if isinstance(value, str) else value
    faults += [f"{where}: {fault}" for fault in _faults(kind, value)]
    when = rule.get("when", "")
    faults += [f"{where}: {fault}" for fault in _bad_patterns([when])] if when else []
    return Rule(str(rule.get("name", f"rule {number}: {kind}")), kind, value, when)


def _faults(kind: str, value: Any) -> Iterator[str]:
    """Yield what is wrong with a rule's value."""
    if kind in ("required", "forbidden"):
        if not isinstance(value, list) or not value:
            yield f"'{kind}' is {value!r}; give a pattern or a list of them"
        else:
            yield from _bad_patterns(value)
    elif kind == "schema":
        if not isinstance(value, dict):
            yield f"'schema' is {value!r}; give a JSON Schema, an object"
            return
        yield from (f"'schema' {fault}" for fault in schema_faults(value))
    # Bounds without a number, or with a misspelt key, would pass every answer.
    elif not isinstance(value, dict) or not value.keys() & {"low", "high"} or value.keys() - {"find", "low", "high"}:
        yield f"'bounds' is {value!r}; give low, high or both, and find where only some numbers are meant"
    else:
        yield from _bad_patterns([value["find"]] if "find" in value else [])
        yield from (
            f"'{n}' is {value[n]!r}; give a number" for n in ("low", "high") if type(value.get(n, 0)) not in (int, float)
        )


def _bad_patterns(patterns: Sequence[Any]) -> Iterator[str]:
    for pattern in patterns:
        try:
            compiled(pattern)
        except (ValueError, TypeError) as error:
            yield f"{pattern!r} is no regular expression ({error})"


def read_format(text: str) -> dict[str, Any]:
    """Return {"schema": ...} of a file that ends in .json, else {"regex": ...}. Raises PlanError where it is neither."""
    # No regular expression that anybody means ends in .json.
    if not text.endswith(".json"):
        try:
            compiled(text, dotall=True)
        except ValueError as error:
            raise PlanError(
                f"answer_format '{text}' is no regular expression ({error}); mend it, or give a .json file"
            ) from None
        return {"regex": text}
    try:
        schema = json.loads(_text_of(text, f"answer_format '{text[:SHOWN]}'"))
    except FileNotFoundError:
        raise PlanError(f"answer_format '{text}' does not exist; give a JSON schema's file, or a regular expression") from None
    except OSError as error:
        raise PlanError(
            f"answer_format '{text[:SHOWN]}' cannot be read ({error.strerror}); name a JSON schema's file"
        ) from None
    except UnicodeDecodeError:
        raise PlanError(f"answer_format '{text}' is not UTF-8 text; save it as UTF-8") from None
    except json.JSONDecodeError as error:
        raise PlanError(f"answer_format '{text}' is not JSON ({error.msg} in line {error.lineno}); mend it") from None
    except (ValueError, RecursionError) as error:  # numbers of too many digits, too much nesting
        raise PlanError(f"answer_format '{text}' cannot be read ({error}); mend it") from None
    if fault := storable_fault(schema):
        raise PlanError(f"answer_format '{text}' {fault}")
    raise_faults([f"answer_format '{text}' {fault}; mend it" for fault in schema_faults(schema)])
    return {"schema": schema}


def fits(form: Mapping[str, Any], output: str) -> bool:
    """Return whether the whole answer, outer blanks aside, has the form. One that takes too long to tell has not."""
    try:
        if "regex" in form:
            return compiled(form["regex"], dotall=True).fullmatch(output.strip(), timeout=rule_schemas.PATIENCE) is not None
        return obeys(form["schema"], output)
    except (ValueError, TimeoutError, RecursionError):
        return False
