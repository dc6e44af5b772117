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

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from harness.errors import raise_faults
from harness.text import rule_schemas
from harness.text.numbers import numbers
from harness.text.rule_schemas import compiled, fits_schema, obeys, schema_faults, search

KINDS = ("required", "forbidden", "schema", "bounds")
FIELDS = ("name", "when", *KINDS)


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


def fits(form: Mapping[str, Any], output: str) -> bool:
    """Return whether the whole answer, outer blanks aside, has the form. One that takes too long to tell has not."""
    try:
        if "regex" in form:
            return compiled(form["regex"], dotall=True).fullmatch(output.strip(), timeout=rule_schemas.PATIENCE) is not None
        return obeys(form["schema"], output)
    except (ValueError, TimeoutError, RecursionError):
        return False
