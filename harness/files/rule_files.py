"""Files of rules, and the form of answers, as a plan names them; what they mean is harness/text/rules.py's. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.errors import PlanError, raise_faults
from harness.store.opening import read_given_json, read_text
from harness.text.rule_schemas import compiled, schema_faults, storable_fault
from harness.text.rules import parse_rules


def read_rules(path: str) -> list[dict[str, Any]]:
    """Return the rules of a YAML file, checked; as `parse_rules` takes them."""
    import yaml

    source = f"rules file '{path}'"
    text = read_text(Path(path), source)
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        _refuse_repeated(root, source)
        given = None if root is None else loader.construct_document(root)
    except yaml.YAMLError as error:
        raise PlanError(f"{source} is not YAML: {' '.join(str(error).split())}; mend it") from None
    except RecursionError:
        raise PlanError(f"{source} is nested too deeply to be read; flatten it") from None
    except ValueError as error:  # a date that is none, a number of too many digits
        raise PlanError(f"{source} cannot be read ({error}); mend it") from None
    if fault := storable_fault(given):
        raise PlanError(f"{source} {fault}")
    rules = given.get("rules") if isinstance(given, dict) else given
    if not isinstance(rules, list) or not rules:
        raise PlanError(f"{source} has no rules; write a list of them, under `rules:`")
    parse_rules(rules, f"{source} rule")
    return rules


def _refuse_repeated(root: Any, source: str) -> None:
    """Refuse a key that stands twice: YAML keeps the last without a word, and the rules of the first would be lost."""
    nodes, seen = [root], set[int]()
    while nodes:
        node = nodes.pop()
        if id(node) in seen or not isinstance(getattr(node, "value", None), list):
            continue
        seen.add(id(node))  # what an alias stands for is one node at several places
        # A mapping holds pairs of nodes, a list holds nodes.
        pairs = [part for part in node.value if isinstance(part, tuple)]
        names = [str(key.value) for key, _ in pairs]
        for name in names:
            if names.count(name) > 1:
                raise PlanError(f"{source} has the key '{name}' twice in one place; keep one")
        nodes += [value for _, value in pairs] or node.value


def read_format(text: str) -> dict[str, Any]:
    """Return {"schema": ...} of a file that ends in .json, else {"regex": ...}. Raises PlanError where it is neither."""
    source = f"answer_format '{text}'"
    # No regular expression that anybody means ends in .json.
    if not text.endswith(".json"):
        try:
            compiled(text, dotall=True)
        except ValueError as error:
            raise PlanError(f"{source} is no regular expression ({error}); mend it, or give a .json file") from None
        return {"regex": text}
    schema = read_given_json(Path(text), source)
    if fault := storable_fault(schema):
        raise PlanError(f"{source} {fault}")
    raise_faults([f"{source} {fault}; mend it" for fault in schema_faults(schema)])
    return {"schema": schema}
