"""Which methods there are: bundled ones, files, entry points."""

from __future__ import annotations

import hashlib
import inspect
import sys
from functools import cache
from importlib.metadata import EntryPoint
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import get_args

from harness.contract import Method
from harness.errors import PlanError, faults_of, raise_faults
from harness.recipes.method_faults import class_faults
from harness.recipes.recipe_text import (
    FILE,
    Setting,
    SettingValues,
    bundled_methods,
    check_known,
    installed_methods,
)


@cache
def methods() -> dict[str, type[Method]]:
    """Return every method that can be used, by name; one of another package that cannot is told by `broken_methods`."""
    # A broken method of another package must not stop comparisons that do not name it.
    usable = {name: _bundled(name, path) for name, path in bundled_methods().items()}
    for point in installed_methods():
        if not faults_of(_installed, point):
            usable[point.name] = _installed(point)
    return usable


def broken_methods() -> list[str]:
    """Return what is wrong with methods of other packages; a recipe that does not name them is not concerned."""
    faults: list[str] = []
    for point in installed_methods():
        faults += faults_of(_installed, point)
    return faults


def find_method(name: str) -> type[Method]:
    """Return the method of this name, or the class that `path/to/file.py:Class` names."""
    check_known(name)
    if file := FILE.fullmatch(name):
        return _from_file(str(Path(file[1]).resolve()), file[2])
    usable = methods()
    if name in usable:
        return usable[name]
    return next(_installed(point) for point in installed_methods() if point.name == name)  # raises: it is broken


def _bundled(name: str, path: Path) -> type[Method]:
    """Return the class in a file of `trainers/` that is named like the file.

    Files are found beside this package and loaded under names of their own, so that a `trainers` package of somebody else's,
    wherever it stands on the import path, is neither taken for ours nor hidden by ours.
    """
    # Every class of the file but one is a helper.
    module = _load(path, f"lethe.trainers.{name}")
    wanted = name.replace("_", "")
    for title, value in vars(module).items():
        if title.lower() == wanted and inspect.isclass(value) and issubclass(value, Method):
            return value
    raise TypeError(f"trainers/{name}.py must define a Method class named like the file")


@cache
def _installed(point: EntryPoint) -> type[Method]:
    """Return the method of another package. Raises PlanError where it cannot be used."""
    if point.name in bundled_methods():
        raise PlanError(f"method '{point.name}' of {point.value} is named like another method; rename its entry point")
    if not point.name.isidentifier():
        cure = "name its entry point by letters, digits and _"
        raise PlanError(f"method '{point.name}' of {point.value} has a name that no recipe can hold; {cure}")
    try:
        method = point.load()
    except (Exception, SystemExit) as error:  # whatever the package's code raises; some packages leave where they lack a part
        cure = "mend or uninstall that package"
        raise PlanError(
            f"method '{point.name}' of {point.value} cannot be loaded: {type(error).__name__}: {error}; {cure}"
        ) from error
    raise_faults([f"method '{point.name}' of {point.value}: {fault}" for fault in class_faults(method)])
    return method


@cache
def _from_file(path: str, name: str) -> type[Method]:
    try:
        module = _load(Path(path), f"lethe_method_{hashlib.sha256(path.encode()).hexdigest()[:8]}")
    except (Exception, SystemExit) as error:  # whatever the user's file raises
        raise PlanError(f"{path} cannot be loaded: {type(error).__name__}: {error}; mend it") from error
    method = getattr(module, name, None)
    if not (inspect.isclass(method) and issubclass(method, Method)):
        raise PlanError(f"{path} defines no Method named {name}; write `class {name}(Method)` there")
    raise_faults([f"{path}: {fault}" for fault in class_faults(method)])
    return method


def _load(path: Path, name: str) -> ModuleType:
    """Return the module in a file, under a name of its own."""
    spec = spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)

    # As Python's own import does: dataclasses and pickles look their module up by name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def settings_of(method: type[Method]) -> dict[str, Setting]:
    """Return a method's settings: the keywords of its constructor."""
    parameters = inspect.signature(method).parameters.values()
    bounds = method.bounds
    return {p.name: Setting(p.default, get_args(p.annotation) or (type(p.default),), bounds.get(p.name)) for p in parameters}


def defaults_of(method: type[Method]) -> SettingValues:
    """Return a method's settings with their defaults."""
    return {name: setting.default for name, setting in settings_of(method).items()}


WORDS_ALONE = {
    "ff2ca69a6d6743aa": "52c6b9612a99c000",  # eaft
    "ba1d94a8d52c873e": "c26eed656aeb1db6",  # low_lr
    "b55dafc6a959d551": "7a8c51b92b90efd4",  # mix
    "aabe419e3589a4e4": "2024666fccc6c202",  # ewc
}
"""Hash of a method's file of which only citations or explanations were mended -> the hash that its stored runs are kept under.

What it computes is the same, so those runs answer the same question.
"""


@cache
def source_hash(method: type[Method]) -> str:
    digest = hashlib.sha256(Path(inspect.getfile(method)).read_bytes()).hexdigest()[:16]
    return WORDS_ALONE.get(digest, digest)
