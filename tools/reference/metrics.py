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
    "HistogramMetricFamily": "histogram",
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
    tree = ast.parse(inspect.getsource(module))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    inside = {call: function for function in functions for call in ast.walk(function)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not _is_family(made := ast.unparse(node.func)) or not node.args:
            continue
        name, meaning = (ast.literal_eval(argument) for argument in node.args[:2])
        kind = KINDS[made]
        yield Series(
            name + "_total" if kind == "counter" else name, kind, _labels(node, _Names(module, inside.get(node))), meaning
        )


def _is_family(made: str) -> bool:
    # A family of a kind that is not known here must fail, not be left out.
    return made in KINDS or made.endswith("MetricFamily")


class _Names(NamedTuple):
    """Where a call's names are looked up: in the function around it, then in the module."""

    module: ModuleType
    function: ast.AST | None

    def labels(self, name: str) -> list[str]:
        """The labels that a name stands for."""
        for node in ast.walk(self.function) if self.function else ():
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
                return _expanded(node.value, self)
        return list(getattr(self.module, name))


def _labels(call: ast.Call, names: _Names) -> list[str]:
    given = [keyword.value for keyword in call.keywords if keyword.arg in ("labels", "labelnames")]
    given += [argument for argument in call.args[2:3] if isinstance(argument, ast.List | ast.Name)]
    return [label for expression in given for label in _expanded(expression, names)]


def _expanded(expression: ast.expr, names: _Names) -> list[str]:
    if not isinstance(expression, ast.List):
        return names.labels(ast.unparse(expression))
    found: list[str] = []
    for part in expression.elts:
        found += names.labels(ast.unparse(part.value)) if isinstance(part, ast.Starred) else [ast.literal_eval(part)]
    return found
