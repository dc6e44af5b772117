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
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import PlanError, raise_faults
from harness.text.numbers import numbers

KINDS = ("required", "forbidden", "schema", "bounds")
FIELDS = ("name", "when", *KINDS)
SHOWN = 100
"""Characters of a path that are shown where it cannot be one."""
_FENCE = re.compile(r"```[a-zA-Z]*\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Rule:
    """One checked rule."""

    name: str
    kind: str
    value: Any
    """Patterns, a schema, or {find, low, high}."""
    when: str = ""

    def keeps(self, output: str, prompt: str = "") -> bool | None:
        """Whether the output keeps the rule; None where the rule is not about this prompt."""
        if self.when and not re.search(self.when, prompt):
            return None
        if self.kind == "required":
            return all(re.search(pattern, output) for pattern in self.value)
        if self.kind == "forbidden":
            return not any(re.search(pattern, output) for pattern in self.value)
        return _valid(self.value, output) if self.kind == "schema" else _inside(self.value, output)


def broken(rules: Sequence[Rule], output: str, prompt: str = "") -> list[str]:
    """Names of the rules that the output breaks."""
    return [rule.name for rule in rules if rule.keeps(output, prompt) is False]


def _valid(schema: Any, output: str) -> bool:
    from jsonschema import validators

    # An answer that wraps its JSON in one fenced block means that block; of several none is the
    # answer.
    fenced = _FENCE.findall(output)
    try:
        value = json.loads(fenced[0] if len(fenced) == 1 else output)
    except ValueError:
        return False
    return validators.validator_for(schema)(schema).is_valid(value)


def _inside(bounds: Mapping[str, Any], output: str) -> bool:
    # Without `find`, every number of the output is bounded.
    found = [output]
    if "find" in bounds:
        matches = re.finditer(bounds["find"], output)
        found = [(match[1] if match.re.groups else match[0]) or "" for match in matches]
    values = [number.value for text in found for number in numbers(text)]
    return all(bounds.get("low", -math.inf) <= value <= bounds.get("high", math.inf) for value in values)


# --- reading ---------------------------------------------------------------------------------------------------------


def read_rules(path: str) -> list[dict[str, Any]]:
    """The rules of a YAML file, checked; as `parse_rules` takes them."""
    import yaml

    try:
        given = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(f"rules file '{path[:SHOWN]}' cannot be read ({error.strerror}); name a YAML file") from None
    except UnicodeDecodeError:
        raise PlanError(f"rules file '{path}' is not UTF-8 text; save it as UTF-8") from None
    except yaml.YAMLError as error:
        raise PlanError(f"rules file '{path}' is not YAML: {' '.join(str(error).split())}") from None
    rules = given.get("rules") if isinstance(given, dict) else given
    if not isinstance(rules, list) or not rules:
        raise PlanError(f"rules file '{path}' has no rules; write a list of them, under `rules:`")
    parse_rules(rules, path)
    return rules


def parse_rules(rules: Sequence[Any], where: str = "rules") -> list[Rule]:
    """Checked rules. Raises one PlanError with all faults."""
    faults: list[str] = []
    found = [_parse(rule, f"{where} {place}", place, faults) for place, rule in enumerate(rules, 1)]

    # Names are columns of a table, so no two may be equal.
    names = [rule.name for rule in found]
    faults += [f"{where}: two rules are named '{name}'; rename one" for name in sorted(set(names)) if names.count(name) > 1]
    raise_faults(faults)
    return found


def _parse(rule: Any, where: str, place: int, faults: list[str]) -> Rule:
    # A rule with two checks would be broken without saying by which.
    given = [kind for kind in KINDS if isinstance(rule, dict) and kind in rule]
    if len(given) != 1:
        faults.append(f"{where}: has {' and '.join(given) or 'no check'}; give it one of {', '.join(KINDS)}")
        return Rule(f"rule {place}", "required", [])
    faults += [f"{where}: there is no field '{name}'; use {', '.join(FIELDS)}" for name in rule if name not in FIELDS]
    kind, value = given[0], rule[given[0]]
    if kind in ("required", "forbidden"):
        # One pattern may be written without a list.
        value = [value] if isinstance(value, str) else value
    faults += [f"{where}: {fault}" for fault in _faults(kind, value)]
    when = rule.get("when", "")
    faults += [f"{where}: {fault}" for fault in _bad_patterns([when])] if when else []
    return Rule(str(rule.get("name", f"rule {place}: {kind}")), kind, value, when)


def _faults(kind: str, value: Any) -> Iterator[str]:
    """What is wrong with a rule's value."""
    if kind in ("required", "forbidden"):
        if not isinstance(value, list) or not value:
            yield f"'{kind}' is {value!r}; give a pattern or a list of them"
        else:
            yield from _bad_patterns(value)
    elif kind == "schema":
        from jsonschema import SchemaError, validators

        if not isinstance(value, dict):
            yield f"'schema' is {value!r}; give a JSON Schema, an object"
            return
        try:
            validators.validator_for(value).check_schema(value)
        except SchemaError as error:
            yield f"'schema' is no JSON Schema: {error.message}"
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
            re.compile(pattern)
        except (re.error, TypeError) as error:
            yield f"{pattern!r} is no regular expression ({error})"


def read_format(text: str) -> dict[str, Any]:
    """{"schema": ...} from a file that ends in .json, else {"regex": ...}. Raises PlanError where it is neither."""
    # No regular expression that anybody means ends in .json.
    if not text.endswith(".json"):
        try:
            re.compile(text)
        except re.error as error:
            raise PlanError(
                f"answer_format '{text}' is no regular expression ({error}); mend it, or give a .json file"
            ) from None
        return {"regex": text}
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for

    try:
        schema = json.loads(Path(text).read_text(encoding="utf-8"))
        validator_for(schema).check_schema(schema)
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
    except SchemaError as error:
        raise PlanError(f"answer_format '{text}' is no JSON schema: {error.message}; mend it") from None
    return {"schema": schema}


def fits(form: dict[str, Any], output: str) -> bool:
    """Whether the whole answer, outer blanks aside, has the form."""
    if "regex" in form:
        return re.fullmatch(form["regex"], output.strip(), re.DOTALL) is not None
    from jsonschema.validators import validator_for

    try:
        value = json.loads(output)
    except json.JSONDecodeError:
        return False
    return bool(validator_for(form["schema"])(form["schema"]).is_valid(value))
