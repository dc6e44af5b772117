"""The form that domain answers were asked to have: a regular expression or a JSON schema. No torch here."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from harness.errors import PlanError


def read_format(text: str) -> dict[str, Any]:
    """{"schema": ...} from a file that ends in .json, else {"regex": ...}. Raises PlanError where it is neither."""
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
