"""docs/reference/metrics.md: every Prometheus series, from the calls that make them."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import NamedTuple

from quarterdeck_deployer import metrics as deployer_metrics
from quarterdeck_node import metrics as node_metrics
from tools.reference.tables import table

KINDS = {
    "Counter": "counter",
    "Histogram": "histogram",
    "Gauge": "gauge",
    "CounterMetricFamily": "counter",
    "GaugeMetricFamily": "gauge",
}
INTRO = """\
# Metrics

Prometheus text at `GET /metrics` of each program. Labels are closed sets: never a key, a request id or a feature.
Everything is counted since the start of the process.
"""


class Series(NamedTuple):
    """One family as it is exported."""

    name: str
    kind: str
    labels: list[str]
    meaning: str


def page() -> str:
    """The page."""
    parts = [INTRO]
    for title, module in (("Node", node_metrics), ("Deployer", deployer_metrics)):
        rows = [
            [f"`{one.name}`", one.kind, ", ".join(f"`{label}`" for label in one.labels), one.meaning] for one in series(module)
        ]
        parts.append(f"\n## {title}\n\n" + table(["series", "type", "labels", "meaning"], rows))
    return "".join(parts)


def _quoted(labels: list[str]) -> str:
    return ", ".join(f"`{label}`" for label in labels)


def series(module: ModuleType) -> list[Series]:
    """The families that a module makes, sorted by name."""
    return sorted(_made(module))


def _made(module: ModuleType) -> Iterator[Series]:
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if not isinstance(node, ast.Call) or (made := ast.unparse(node.func)) not in KINDS or not node.args:
            continue
        name, meaning = (ast.literal_eval(argument) for argument in node.args[:2])
        kind = KINDS[made]
        yield Series(name + "_total" if kind == "counter" else name, kind, _labels(node, module), meaning)


def _labels(call: ast.Call, module: ModuleType) -> list[str]:
    given = [keyword.value for keyword in call.keywords if keyword.arg in ("labels", "labelnames")]
    given += [argument for argument in call.args[2:3] if isinstance(argument, ast.List | ast.Name)]
    names: list[str] = []
    for expression in given:
        parts = expression.elts if isinstance(expression, ast.List) else [ast.Starred(expression)]
        for part in parts:
            if isinstance(part, ast.Starred):
                names += getattr(module, ast.unparse(part.value))
            else:
                names.append(ast.literal_eval(part))
    return names
