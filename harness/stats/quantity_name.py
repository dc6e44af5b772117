"""Names of the quantities of an analysis: what is measured, and over which part of the items.

A name is a text, as evidence and tables hold it (`change:family:arithmetic`), that knows its parts: nobody else puts such texts
together or takes them apart.
"""

from __future__ import annotations

from enum import StrEnum


class Measured(StrEnum):
    """What a quantity is of."""

    GAIN = "gain"
    """Domain score minus the base's, in points."""
    CHANGE = "change"
    """Chance-corrected general score minus the base's, in points."""
    RETENTION = "retention"
    """General ability in per cent of the base's."""
    GENERAL = "general"
    """Mean raw general score, 0 to 1."""
    LEVEL = "level"
    """Mean of a metric as it is."""


class Scope(StrEnum):
    """Which part of the items a quantity is over."""

    WHOLE = ""
    SEEN = "seen"
    HELD_OUT = "held_out"
    FORM = "form"
    """The part of gain that a constant answer has too."""
    KNOWLEDGE = "knowledge"
    """The rest of gain."""
    FAMILY = "family"
    CHANNEL = "channel"
    AREA = "area"
    TASK = "task"
    METRIC = "metric"
    """A metric over a group of tasks: the scope of levels."""


class QuantityName(str):
    """The name of a quantity, equal to its text."""

    __slots__ = ("group", "measured", "part", "scope")

    measured: Measured
    scope: Scope
    part: str
    """Which family, channel, column group, task or metric; empty where the scope has no parts."""
    group: str
    """Of a level, the group of tasks; empty elsewhere."""


def name_of(measured: Measured, scope: Scope = Scope.WHOLE, part: str = "", group: str = "") -> QuantityName:
    """Return a quantity's name. A level's text is `level:<metric>:<group>`, any other's what is measured, scope and part."""
    if measured is Measured.LEVEL:
        parts = [measured.value, part, group]
    else:
        parts = [text for text in (measured.value, scope.value, part) if text]
    name = QuantityName(":".join(parts))
    name.measured = measured
    name.scope = scope
    name.part = part
    name.group = group
    return name


GAIN = name_of(Measured.GAIN)
CHANGE = name_of(Measured.CHANGE)
RETENTION = name_of(Measured.RETENTION)
GENERAL = name_of(Measured.GENERAL)


def change_of_family(family: str) -> QuantityName:
    """Return the name of the general change of one family."""
    return name_of(Measured.CHANGE, Scope.FAMILY, family)


def change_of_area(area: str) -> QuantityName:
    """Return the name of the general change of one column group."""
    return name_of(Measured.CHANGE, Scope.AREA, area)


def gain_of_task(task: str) -> QuantityName:
    """Return the name of the gain on one task of the domain."""
    return name_of(Measured.GAIN, Scope.TASK, task)


def level_of(metric: str, group: str) -> QuantityName:
    """Return the name of a metric's mean over a group's tasks."""
    return name_of(Measured.LEVEL, Scope.METRIC, metric, group)
