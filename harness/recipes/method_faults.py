"""What is wrong with a method's class, before it is asked anything: misspelt hooks and needs, settings that cannot be left out.

A method that does nothing, since its one hook is misspelt, would be measured as plain fine-tuning and called by its own name.
"""

from __future__ import annotations

import inspect
from typing import Any

from harness.contract import HOOKS, PLACES, Method, Need
from harness.spelling import close_names, did_you_mean
from harness.text.bounds import bound_fault, read_interval

NEAR = 0.75
"""How like a hook's name another one must be to be taken for a misspelling of it."""


def class_faults(cls: Any) -> list[str]:
    """Return the faults of a class that should be a method, a sentence each that names the class."""
    if not (inspect.isclass(cls) and issubclass(cls, Method)):
        return [f"{getattr(cls, '__name__', cls)!s} is no class derived from harness.contract.Method; make it one"]
    return [*_hook_faults(cls), *_setting_faults(cls), *_fact_faults(cls)]


def need_faults(needs: Any) -> list[str]:
    """Return what is wrong with a method's needs: of its class when it is found, and of itself when it is made.

    A method that is made may need more than its class says, as its settings decide.
    """
    names = [str(need) for need in Need]
    if isinstance(needs, property):  # only a method that is made knows
        return []
    if not isinstance(needs, frozenset | set):
        return [f"needs is {needs!r}; write it as frozenset({{...}}) of {', '.join(names)}"]
    faults = []
    for need in sorted(str(need) for need in needs if need not in names):
        hint = did_you_mean(need, names, f"needs are {', '.join(names)}")
        faults.append(f"needs '{need}', which nothing answers; {hint}")
    return faults


def _hook_faults(cls: type[Method]) -> list[str]:
    """Return the faults of its hooks: misspelt, called with other arguments, or none at all."""
    name, faults = cls.__name__, []

    # Only public functions: a helper begins with an underscore.
    callables = [attribute for attribute in dir(cls) if not attribute.startswith("_") and callable(getattr(cls, attribute))]
    filled = [hook for hook in HOOKS if getattr(cls, hook) is not getattr(Method, hook)]
    for attribute in callables:
        near = close_names(attribute, HOOKS, likeness=NEAR)
        if attribute not in HOOKS and near and near[0] not in filled:
            faults.append(
                f"{name}.{attribute} is no hook, so nothing calls it; did you mean '{near[0]}'? (a helper begins with _)"
            )

    # A method without a hook would be measured as plain fine-tuning under its own name.
    if not filled and not cls.plain and not faults:
        helpers = [attribute for attribute in callables if attribute not in HOOKS]
        hints = f"it has {', '.join(helpers) or 'no function of its own'}"
        faults.append(f"{name} fills no hook, so it is plain fine-tuning; {hints}; hooks are {', '.join(HOOKS)}")

    # Arguments are given by place, so their number must agree; their names may differ.
    for hook in filled:
        wanted, given = _arguments(getattr(Method, hook)), _arguments(getattr(cls, hook))
        if wanted is not None and given is not None and len(wanted) != len(given):
            faults.append(f"{name}.{hook} takes ({', '.join(given)}), and is called with ({', '.join(wanted)})")
    return faults


def _arguments(function: Any) -> list[str] | None:
    """Return names of the arguments that must be given by place; None where any number may be."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    return [p.name for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def _setting_faults(cls: type[Method]) -> list[str]:
    """Return settings without a default, or whose default, `off` or `search` lies outside what they may be."""
    name, faults = cls.__name__, []
    parameters = inspect.signature(cls).parameters
    for setting, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            faults.append(f"{name}'s constructor takes {parameter}; name each setting, with its default")
        elif parameter.default is parameter.empty:
            faults.append(
                f"{name}'s setting '{setting}' has no default, and every setting needs one, as {setting}: float = 1.0"
            )

    # `lr` in a recipe is taken out before settings are read.
    if "lr" in parameters:
        faults.append(f"{name}'s setting 'lr' is every recipe's learning rate; give it another name")
    facts = {"bounds": cls.bounds, "off": cls.off or {}, "search": cls.search}
    for fact, by_setting in facts.items():
        unknown = sorted(by_setting.keys() - parameters.keys())
        faults += [f"{name}.{fact} names '{setting}', which is no setting of it" for setting in unknown]
    for setting, bound in cls.bounds.items():
        try:
            _ = bound if isinstance(bound, tuple) else read_interval(bound)
        except (TypeError, ValueError) as error:
            faults.append(f"{name}.bounds, {setting}: {error}")
            continue

        # A default that its own bound refuses could never be used.
        values = [parameters[setting].default] if setting in parameters else []
        values += [cls.off[setting]] if cls.off and setting in cls.off else []
        values += list(cls.search.get(setting, ()))
        faults += [
            f"{name}: {fault}, and its own default, off or search is"
            for v in values
            if (fault := bound_fault(setting, v, bound))
        ]
    return faults


def _fact_faults(cls: type[Method]) -> list[str]:
    """Return the faults of its other facts: its needs, and where it adds parameters."""
    faults = [f"{cls.__name__}: {fault}" for fault in need_faults(cls.needs)]
    if cls.adds not in PLACES:
        faults.append(f"{cls.__name__}.adds is {cls.adds!r}; it is one of {', '.join(map(repr, PLACES))}")
    return faults
