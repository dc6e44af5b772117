"""A model card in the hub's form: YAML with a model-index of evaluation results, then what a reader must know. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import ModelCardData
from huggingface_hub.repocard_data import EvalResult

from harness.report.summary.format import number, points, si
from harness.report.summary.summary import READABLE
from harness.visible import markdown_code, markdown_text, visible

RESULTS = {  # column of table.csv: (data, what it is)
    "gain": ("domain", "domain score minus the base's, points"),
    "change": ("general", "general score minus the base's, points"),
    "retention": ("general", "general ability kept, % of the base's"),
    "retention seen": ("general", "general ability kept on seen families, %"),
    "retention held out": ("general", "general ability kept on held-out families, %"),
    "kl_to_base general": ("general", "KL to the base on general text like the pool's, nats a token"),
    "rep3_word general": ("general", "share of repeated word 3-grams on general prompts"),
}


def card(record: Mapping[str, Any], line: Mapping[str, Any], checked: str = "", warnings: Sequence[str] = ()) -> str:
    """Return the card of a row: `record` is comparison.json, `line` the row of table.csv, `checked` how its scores
    were verified.

    `warnings`: what the report warns of, for the whole comparison and for this row.
    """
    line = shown_line(line)
    name = f"{record['name']}-{line['row']}"
    results = [result for column in RESULTS if (result := _result(record, line, column))]
    data = ModelCardData(
        base_model=_hub(record["model"]["name"]),
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["lethe", "fine-tuned"],
        model_name=visible(name),
        eval_results=results,
    )
    return f"---\n{data.to_yaml()}\n---\n\n{_body(record, line, checked, warnings)}"


def shown_line(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return a line of table.csv without shares of the base's ability where that is too small for them to say anything."""
    # A share of very little would look like a collapse or a miracle.
    ability = line.get("base above chance")
    if ability is None or _number(ability) >= READABLE:
        return dict(line)
    return {name: None if str(name).startswith("retention") else value for name, value in line.items()}


def _result(record: Mapping[str, Any], line: Mapping[str, Any], column: str) -> EvalResult | None:
    value = _number(line.get(column))
    # A number that was not measured is no result of the card.
    if not math.isfinite(value):
        return None
    group, what = RESULTS[column]
    ends = [_number(line.get(f"{column} {end}")) for end in ("low", "high")]
    spread = f" [{points(ends[0])}, {points(ends[1])}]" if all(map(math.isfinite, ends)) else ""
    return EvalResult(
        task_type="text-generation",
        dataset_type=_data(record, group),
        dataset_name=_data(record, group),
        metric_type=column.replace(" ", "_"),
        metric_name=f"{what}{spread}",
        metric_value=round(value, 4),
    )


def _data(record: Mapping[str, Any], group: str) -> str:
    names = [
        suite["name"] for suite in record.get("suites", []) if (suite["name"] == record["data"]["name"]) == (group == "domain")
    ]
    return visible(" + ".join(names) or (record["data"]["name"] if group == "domain" else "general"))


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _hub(name: str) -> str | None:
    """Return a hub id; a folder of somebody's machine is none."""
    # A path of one machine means nothing on the hub.
    return name if name.count("/") == 1 and not name.startswith((".", "/")) else None


def _body(record: Mapping[str, Any], line: Mapping[str, Any], checked: str, warnings: Sequence[str]) -> str:
    plan, data = record["plan"], record["data"]
    seeds = int(_number(line.get("seeds")) or 1)
    lines = [
        f"# {markdown_text(record['name'])}: {markdown_text(line['row'])}",
        "",
        f"{markdown_code(record['model']['name'])} fine-tuned on {markdown_code(data['name'])} ({data['train']:,} records)"
        f" with the recipe {markdown_code(line['row'])} under a budget of {markdown_text(plan['budget'])}"
        f" ({markdown_text(plan['meter'])}), by Lethe.",
        "",
        f"It gained {_shown(line, 'gain')} points in the domain. Its general score changed by {_shown(line, 'change')} points:"
        f" it kept {_kept(line)} (95 % intervals).",
        "",
        f"- The numbers above are of {seeds} seed{'s' if seeds > 1 else ''}, paired with the base item by item,"
        f" protocol {record['protocol']}; one seed's interval covers the choice of items, not a repetition of the training.",
        f"- It spent {si(_number(line.get('flops')))} FLOPs in {number(_number(line.get('device seconds')))} device-seconds,"
        f" {number(_number(line.get('epochs')))} epochs of the data.",
        f"- Base weights {record['model']['hash']}, data {data['fingerprint']}, runs {markdown_text(line.get('keys'))}.",
    ]

    # Warnings stand in the card too: who reads it may never see the report.
    lines += [f"- {markdown_text(checked)}"] if checked else []
    lines += ["", "Before believing it:", "", *(f"- {markdown_text(warning)}" for warning in warnings)] if warnings else []
    return "\n".join(lines) + "\n"


def _kept(line: Mapping[str, Any]) -> str:
    """Return retention with its interval; points only where it is not defined, or a share of very little."""
    if not math.isfinite(_number(line.get("retention"))):
        return "a share of the base's ability that is not shown, as the base has too little of it"
    return f"{_shown(line, 'retention')} % of the base's general ability"


def _shown(line: Mapping[str, Any], column: str) -> str:
    value, low, high = (points(_number(line.get(name))) for name in (column, f"{column} low", f"{column} high"))
    return f"{value} [{low}, {high}]"


def _with_interval(line: Mapping[str, Any], column: str) -> str:
    """Return a value with its interval, where it has one."""
    has_interval = math.isfinite(_number(line.get(f"{column} low")))
    return _shown(line, column) if has_interval else number(_number(line.get(column)))


def section(record: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], warnings: Sequence[str] = ()) -> str:
    """Return a section to paste into the card of a model that was tuned elsewhere; of several, one below the other.

    `lines`: rows of table.csv; `warnings`: what the report warns of.
    """
    parts = []
    for line in lines:
        measured = {name: what for name, (_, what) in RESULTS.items() if math.isfinite(_number(line.get(name)))}
        shown = [(what, _with_interval(line, name)) for name, what in measured.items()]
        suites = ", ".join(suite["name"] for suite in record.get("suites") or [])
        items = sum(int(suite["items"]) for suite in record.get("suites") or [])
        parts += [
            f"## What tuning changed: {markdown_text(line['row'])}",
            "",
            f"Measured by Lethe against {markdown_code(record['model']['name'])} on {items:,} items"
            f" ({markdown_text(suites)}), paired item by item.",
            "",
            "| measure | value [95 % interval] |",
            "|---|---|",
            *(f"| {what} | {value} |" for what, value in shown),
            "",
            f"- Models of this row: {int(_number(line.get('seeds')) or 1)}. With one, the intervals cover the choice of items,"
            " not another training.",
            f"- Protocol {record['protocol']}; base weights {record['model']['hash']}, runs {markdown_text(line.get('keys'))}.",
            *(f"- {markdown_text(warning)}" for warning in warnings),
            "",
        ]
    return "\n".join(parts)
