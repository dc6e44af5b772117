"""JSON schemas that an output must keep, checked with patterns that may not run for ever."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from harness.text.json_reader import finite

PATIENCE = 1.0
"""Seconds that a pattern may search one answer."""
_FENCE = re.compile(r"```[a-zA-Z]*\n(.*?)```", re.DOTALL)


def search(pattern: str, text: str) -> Any:
    """Return the first match of a user's pattern. Raises TimeoutError where a text holds it up: (a+)+b on a long row of a."""
    return compiled(pattern).search(text, timeout=PATIENCE)


@cache
def compiled(pattern: str, dotall: bool = False) -> Any:
    """Return a user's pattern, in the module whose searches can end in time. Raises ValueError."""
    import regex

    try:
        return regex.compile(pattern, flags=regex.DOTALL if dotall else 0)
    except (regex.error, RecursionError, OverflowError) as error:
        raise ValueError(str(error)) from None


def fits_schema(schema: Any, output: str) -> bool:
    # An answer that wraps its JSON in one fenced block means that block; of several none is the answer.
    fenced = _FENCE.findall(output)
    return obeys(schema, fenced[0] if len(fenced) == 1 else output)


def obeys(schema: Any, text: str) -> bool:
    """Return whether a text is JSON that a schema accepts; NaN, infinity and numbers beyond all floats are no JSON here."""
    try:
        value = json.loads(text, parse_constant=finite, parse_float=finite)
        return bool(validator_of(schema).is_valid(value))
    except (ValueError, OverflowError):  # OverflowError: a whole number that `multipleOf` cannot divide
        return False


def validator_of(schema: Any) -> Any:
    """Return a validator that never fetches anything: references stay within the schema. Its patterns end in time."""
    from jsonschema import validators
    from referencing import Registry

    timed = {"pattern": _pattern, "patternProperties": _pattern_properties}
    kind = validators.extend(validators.validator_for(schema), timed)
    return kind(schema, registry=Registry())


def _pattern(_: Any, pattern: str, value: Any, __: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if isinstance(value, str) and not search(pattern, value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Mapping[str, Any], value: Any, _: Any) -> Iterator[Any]:
    for pattern, subschema in patterns.items() if isinstance(value, dict) else ():
        for name, part in value.items():
            if search(pattern, name):
                yield from validator.descend(part, subschema, path=name, schema_path=pattern)


def schema_faults(schema: Any) -> Iterator[str]:
    """Yield what is wrong with a schema: it is tried on a value of every kind."""
    from jsonschema import SchemaError, validators
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    try:
        validators.validator_for(schema).check_schema(schema)
        resolver = Registry().with_resource("", DRAFT202012.create_resource(schema)).resolver()
        for name, value in _fields(schema):
            if name in ("$ref", "$dynamicRef") and isinstance(value, str):
                if not value.startswith("#"):
                    yield f"refers to {value!r}, and nothing is fetched: write that into `$defs`, and refer to `#/$defs/...`"
                    return
                resolver.lookup(value)
            if name == "pattern" and isinstance(value, str):
                compiled(value)
            for pattern in value if name == "patternProperties" and isinstance(value, dict) else ():
                compiled(pattern)
        # A value of every kind, since a fault may stand in a branch that one kind alone reaches.
        for value in (None, True, 0, 0.5, "", "a", [], ["a"], {}, {"a": 1}):
            validator_of(schema).is_valid(value)
    except SchemaError as error:
        yield f"is no JSON Schema: {error.message}"
    except Unresolvable as error:
        yield f"refers to what is not in it ({error})"
    except RecursionError:
        yield "refers to itself without end"
    except (ValueError, TypeError, TimeoutError) as error:
        yield f"cannot be used ({error})"


def _fields(schema: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name and value of every field, wherever it stands in a schema."""
    if isinstance(schema, dict):
        yield from schema.items()
    values = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    for value in values:
        yield from _fields(value)


def storable_fault(value: Any) -> str:
    """Return why a value cannot be kept as JSON, as rules and formats are with every comparison; "" where it can."""
    try:
        json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:  # dates, NaN and infinity, aliases of themselves, half characters
        return f"holds what JSON cannot ({error}); write texts, finite numbers, lists and objects"
    return ""
