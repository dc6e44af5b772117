"""Recipes as text: their terms, and what can be refused before any method is imported. No torch here.

A method's settings are read off its file as the keywords of its constructor, so a misspelt one is refused at once. What only a
method itself can tell (a value out of range) is refused when the method is made (harness/recipes/recipe.py).
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, EntryPoint, distributions, entry_points
from itertools import chain
from pathlib import Path
from typing import Any

from harness.bundled import TRAINERS
from harness.errors import PlanError, faults_of
from harness.spelling import did_you_mean
from harness.text.bounds import Bound, as_float, bound_fault

FILE = re.compile(r"([^\s+(),=]+\.py):([A-Za-z_]\w*)")
"""A method named by its file and class."""
RATES = "(0, inf)"
"""What a learning rate may be."""
LARGEST = 2**63
"""What an integer may be, either way."""
FINITE = "(-inf, inf)"
"""What a number may be of which its method says nothing."""
PLAIN_TYPES: dict[str, type] = {"bool": bool, "float": float, "int": int, "str": str, "None": type(None)}
"""What a setting may be, by the name in its annotation."""


@dataclass(frozen=True)
class Setting:
    """One setting of a method: a keyword of its constructor."""

    default: Any
    types: tuple[type, ...]
    """What it may be: as annotated where several are, else the type of its default."""
    bound: Bound | None = None
    """Which values, as the method's `bounds` say; None: any, but finite where it is a number."""


Settings = Mapping[str, Setting]
SettingValue = bool | int | float | str | None
"""What a recipe may give for a setting."""
SettingValues = dict[str, SettingValue]
"""Setting -> its value."""
Term = tuple[str, SettingValues]
"""A method of a recipe and its settings as given."""


@cache
def bundled_methods() -> Mapping[str, Path]:
    """Return the methods that come with Lethe: name -> file."""
    return {path.stem: path for path in sorted(TRAINERS.glob("*.py")) if not path.stem.startswith("_")}


def installed_methods() -> tuple[EntryPoint, ...]:
    """Return the methods of other packages: entry points of the group `lethe.methods`.

    Raises PlanError where the metadata of an installed package cannot be read.
    """
    try:
        return tuple(entry_points(group="lethe.methods"))
    except (TypeError, ValueError) as error:
        # Python reads the metadata of all packages at once, and says of none whose they are.
        name = next(filter(None, map(_unreadable, distributions())), "a package")
        raise PlanError(f"the entry points of {name} cannot be read ({error}); reinstall or remove that package") from None


def _unreadable(package: Distribution) -> str:
    """Return the name of a package whose entry points cannot be read; "" where they can."""
    try:
        _ = package.entry_points
    except (TypeError, ValueError):
        return package.metadata["Name"] or "a package"
    return ""


# --- terms -----------------------------------------------------------------------------------------------------------


def read_terms(text: str) -> list[Term]:
    """Return [(method, settings as given)] in written order. Raises PlanError where the text is no recipe."""
    # A path is no Python name: a stand-in takes its place while the text is parsed.
    files = {f"file_{i}_": file[0] for i, file in enumerate(FILE.finditer(text))}
    code = text.strip()
    if _has_comment(code):
        raise PlanError(f"recipe '{text}' holds a comment, which no row's name can; leave out # and what follows")
    for stand_in, file in files.items():
        code = code.replace(file, stand_in, 1)
    try:
        node: ast.expr = ast.parse(code, mode="eval").body
    except (SyntaxError, ValueError):
        raise PlanError(f"recipe '{text}' is not understood: write method+method, with settings as mix(ratio=0.3)") from None

    # a+b+c is parsed as (a+b)+c: terms come from the right.
    terms: list[Term] = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        terms.insert(0, _term(text, node.right))
        node = node.left
    return [(files.get(name, name), given) for name, given in (_term(text, node), *terms)]


def _has_comment(code: str) -> bool:
    """Return whether a part of the text would be passed over."""
    try:
        return any(token.type == tokenize.COMMENT for token in tokenize.generate_tokens(io.StringIO(code).readline))
    except (tokenize.TokenError, SyntaxError):
        return False  # said when it is parsed


def _term(text: str, node: ast.expr) -> Term:
    if isinstance(node, ast.Name):
        return node.id, {}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
        names = [keyword.arg or "**" for keyword in node.keywords]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise PlanError(f"recipe '{text}': {node.func.id} is given {', '.join(repeated)} more than once; keep one")
        return node.func.id, {name: _value(text, keyword.value) for name, keyword in zip(names, node.keywords, strict=True)}
    written = ast.unparse(node)
    cure = f"write the file with its class, {written}:Class" if written.endswith(".py") else "write name or name(setting=value)"
    raise PlanError(f"recipe '{text}': '{written}' is not a method; {cure}")


def _value(text: str, node: ast.expr) -> SettingValue:
    if isinstance(node, ast.Name):
        return node.id  # scale=quantile means the word
    try:
        value = ast.literal_eval(node)
    except ValueError:
        raise PlanError(f"recipe '{text}': '{ast.unparse(node)}' is not a plain value") from None
    if isinstance(value, int) and abs(value) > LARGEST:
        raise PlanError(f"recipe '{text}' holds a number of {len(str(value)):,} digits, which is none that computes")
    return value


def with_settings(text: str, settings: Mapping[tuple[str, str], Any]) -> str:
    """Return the recipe with these settings, {(method, setting): value}, written into it; `lr` may stand at any method."""
    terms = [(name, given | {s: v for (m, s), v in settings.items() if m == name}) for name, given in read_terms(text)]
    inside = [", ".join(f"{setting}={value!r}" for setting, value in given.items()) for _, given in terms]
    return "+".join(name + (f"({settings})" if settings else "") for (name, _), settings in zip(terms, inside, strict=True))


# --- what is wrong with it -------------------------------------------------------------------------------------------


def recipe_faults(text: str) -> list[str]:
    """Return what is wrong with a recipe, as far as that can be told without importing its methods."""
    try:
        terms = read_terms(text)
    except PlanError as error:
        return list(error.faults)
    faults: list[str] = []
    for name, given in terms:
        # Of a method that does not exist, nothing else can be said.
        unknown = faults_of(check_known, name)
        if unknown:
            faults += [f"'{text}': {fault}" for fault in unknown]
            continue
        settings = written_settings(name)
        if settings is not None:
            method_settings = {setting: value for setting, value in given.items() if setting != "lr"}
            faults += setting_faults(text, name, method_settings, settings)
    return faults + rate_faults(text, terms)


def rate_faults(text: str, terms: Iterable[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Return what is wrong with the learning rates given in a recipe."""
    rates = [(name, given["lr"]) for name, given in terms if "lr" in given]
    faults = []
    for name, rate in rates:
        if not isinstance(rate, int | float) or isinstance(rate, bool):
            faults.append(f"'{text}': {name}(lr=...) takes a number, not {rate!r}")
        elif fault := bound_fault("lr", rate, RATES):
            faults.append(f"'{text}': {fault}")
    if len(rates) > 1:
        faults.append(f"'{text}': lr is given {len(rates)} times; keep one")
    return faults


def check_known(name: str) -> None:
    """Raise PlanError where there is no method of this name; a file must be there."""
    if file := FILE.fullmatch(name):
        if not Path(file[1]).is_file():
            raise PlanError(f"there is no file {file[1]} to take method {file[2]} from; check the path")
        return
    if name in bundled_methods():
        return
    available = {*bundled_methods(), *(point.name for point in installed_methods())}
    if name not in available:
        names = sorted(available)
        hint = did_you_mean(name, names, f"methods are {', '.join(names)}")
        raise PlanError(f"there is no method '{name}'; {hint}")


def setting_faults(text: str, name: str, given: SettingValues, settings: Settings) -> list[str]:
    """Return what is wrong with the settings given to a method of the recipe.

    Whole numbers become floats where one is wanted.
    """
    faults = []
    for setting, value in given.items():
        if setting not in settings:
            faults.append(f"'{text}': {name} has no setting '{setting}'; it has {', '.join([*settings, 'lr'])}")
            continue
        wanted = settings[setting].types

        # ratio=1 means 1.0.
        if wanted == (float,) and type(value) is int:
            value = given[setting] = as_float(value)
        if type(value) not in wanted:
            names = " or ".join(kind.__name__ for kind in wanted)
            faults.append(f"'{text}': {name}({setting}=...) takes {names}, not {value!r}")
        elif fault := bound_fault(setting, value, settings[setting].bound or FINITE):
            faults.append(f"'{text}': {name}: {fault}")
    return faults


# --- settings as written in a file -----------------------------------------------------------------------------------


def written_settings(name: str) -> Settings | None:
    """Return the settings of a method, read off its file; None where only importing it can tell."""
    if file := FILE.fullmatch(name):
        return _settings_in(Path(file[1]), file[2])
    path = bundled_methods().get(name)
    return _settings_in(path, name.replace("_", "")) if path else None


def _settings_in(path: Path, name: str) -> Settings | None:
    """Return those of the class of this name, whatever its case."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return None  # said when it is imported

    # Settings that are inherited, or made in other ways, are left to the import.
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name.lower() == name.lower()]
    if len(classes) != 1 or [ast.unparse(base) for base in classes[0].bases] != ["Method"]:
        return None  # what it inherits is not written here
    made = [node for node in classes[0].body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    bounds = [
        node.value
        for node in classes[0].body
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["bounds"]
    ]
    try:
        return _parameters(made[0].args, ast.literal_eval(bounds[0]) if bounds else {}) if made else {}
    except ValueError:
        return None


def _parameters(arguments: ast.arguments, bounds: Mapping[str, Bound]) -> Settings | None:
    """Return a constructor's keywords; None where they are not plainly written."""
    if arguments.vararg or arguments.kwarg or arguments.posonlyargs:
        return None
    named = arguments.args[1:]
    pairs = [*zip(named[::-1], arguments.defaults[::-1], strict=False)][::-1]
    pairs += [(param, default) for param, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if default]
    if len(pairs) != len(named) + len(arguments.kwonlyargs):
        return None
    try:
        values = [ast.literal_eval(default) for _, default in pairs]
    except ValueError:
        return None
    return {
        argument.arg: Setting(value, _types(argument.annotation) or (type(value),), bounds.get(argument.arg))
        for (argument, _), value in zip(pairs, values, strict=True)
    }


def _types(annotation: ast.expr | None) -> tuple[type, ...]:
    """Return the types of an annotation such as `int | str`; none where it names one only, or others than plain ones."""
    if not isinstance(annotation, ast.BinOp):
        return ()
    names = [part.strip() for part in ast.unparse(annotation).split("|")]
    return tuple(PLAIN_TYPES[name] for name in names) if set(names) <= set(PLAIN_TYPES) else ()


def all_recipe_faults(texts: Iterable[str]) -> list[str]:
    """Return those of every recipe of a plan."""
    return list(chain.from_iterable(map(recipe_faults, texts)))
