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


SAME_BITS = {
    "5abb86598f5f668d": "ef9fe25109053adb",  # a_gem
    "e5e7a9b4680cb51a": "5e9709be5ac65437",  # context_distill
    "9c8a9d6050d3c363": "97a2ef04fe7d864a",  # distill
    "ff2ca69a6d6743aa": "52c6b9612a99c000",  # eaft
    "cea73539dc8c0d32": "335576b6231a235f",  # early_stop
    "8885f31adf1b3733": "2024666fccc6c202",  # ewc
    "53ed29f7e2be25fc": "2dc6d3dfbf5761aa",  # ewc_online
    "f439f438fcb69760": "9a1cc3e0645cd578",  # finch
    "41282ccc486270d9": "2cd91bd7405a17ca",  # flow
    "73f2a217b2376b76": "bed03adeb904c6a4",  # interpolate
    "c6954d0e2b87448e": "062f83f64ca0450b",  # kl
    "1e6b11f2a136e1b4": "ded5bfdcc0a95770",  # l2sp
    "2e0366be4d07e448": "69081433d14f5e1e",  # lines
    "795a0f93cc7b990d": "f33e05b66fca3569",  # lisa
    "ba1d94a8d52c873e": "c26eed656aeb1db6",  # low_lr
    "11cca79b9fcdfefb": "7a8c51b92b90efd4",  # mix
    "26adad11b94a17f6": "3244d6adad586c3e",  # moe
    "74bebd28ea57deb5": "f013d308794c4e56",  # mofo
    "36a3bd4dfb8648a8": "69f6f4115e37ea5f",  # nlirg
    "b56b4a9379a1c5fe": "d37e65231f6f621d",  # qlora
    "fb9f0dd796726d44": "f93a4bb2b9b6af8d",  # replay
    "7715dc011980334a": "26a85f69ba3547a7",  # replay_self
    "f54e7bceed87317f": "deb57623f7de3e93",  # sdft
    "992ed5ec31a38d32": "97af041bd5794944",  # self_sft
    "c57fcf902d2cf3d6": "12d8f6f41196b807",  # si_multi
    "348f0d6db22da8d8": "5164ad0a1c09f2c2",  # si_proxy
    "342b2d040eccaa4e": "7f16ec9fb336b4dd",  # sort
    "545c28b774bb04bf": "929205640f121893",  # ssu
    "8d39e0b0934b53b2": "541a83ff66e7afa7",  # stm
    "a4407b67de910bee": "26607ed4935d85c1",  # unfreeze
    "4a511033661605a6": "25644a6195a1a841",  # wd
}
"""Hash of a method's file that computes what an earlier one did -> the hash that its stored runs are kept under.

Citations and explanations were mended, guards and comprehensions opened: the same settings end with the same bits, so those
runs answer the same question.
"""


@cache
def source_hash(method: type[Method]) -> str:
    digest = hashlib.sha256(Path(inspect.getfile(method)).read_bytes()).hexdigest()[:16]
    return SAME_BITS.get(digest, digest)
