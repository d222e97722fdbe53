"""The house rules that a machine can check (docs/rules.md): checkers are clean, and code stays small and typed."""

from __future__ import annotations

import statistics
from functools import cache

import pytest

from tests import style
from tests.checkers import CHECKERS, begun
from tests.support import PROGRAMS, ROOT


@pytest.mark.parametrize("checker", CHECKERS, ids=" ".join)
def test_checker_is_clean(checker: tuple[str, ...]) -> None:
    """The linter, the formatter and the type checker have nothing to say."""
    process = begun(checker)
    said, _ = process.communicate()
    assert process.returncode == 0, said


@cache
def sources() -> list[style.Source]:
    """Every file of the product; tests and tools are not measured here."""
    return [source for folder in (*PROGRAMS, "demo") for source in style.read(ROOT / folder)]


@cache
def functions() -> list[style.Function]:
    """Every function of the product."""
    return [function for source in sources() for function in source.functions()]


def percentile(values: list[int], share: float) -> int:
    """The value below which `share` of all lie."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def test_files_are_short() -> None:
    """At most 500 lines: one who opens a file can read it whole."""
    assert [f"{source.path}: {source.lines}" for source in sources() if source.lines > 500] == []


def test_functions_are_short() -> None:
    """At most 80 lines each, 19 of 20 at most 40, half of them at most 8."""
    lengths = [function.length for function in functions()]
    assert [f"{function.where}: {function.length}" for function in functions() if function.length > 80] == []
    assert percentile(lengths, 0.95) <= 40
    assert statistics.median(lengths) <= 8


def test_functions_take_few_parameters() -> None:
    """19 of 20 take at most 6."""
    assert percentile([function.parameters for function in functions()], 0.95) <= 6


def test_every_function_is_typed() -> None:
    """Parameters and return values, private functions too."""
    assert [function.where for function in functions() if not function.typed] == []


def test_everything_public_has_a_docstring() -> None:
    """Classes, functions, methods and modules say what they are for."""
    assert [where for source in sources() for where in source.undocumented()] == []


def test_checkers_are_rarely_silenced() -> None:
    """At most 5 `noqa` and `type: ignore` per 1000 lines."""
    assert sum(source.escapes for source in sources()) <= 5 * sum(source.lines for source in sources()) / 1000


def test_modules_do_not_import_in_circles() -> None:
    """Whoever reads one module can read on downwards and will not come back to it."""
    graph: dict[str, set[str]] = {}
    for folder in PROGRAMS:
        for source in style.read(ROOT / folder):
            graph[style.module_name(source.path, ROOT / folder)] = set(source.imports())
    known = graph.keys()
    inside = {
        module: {name if name in known else name.rpartition(".")[0] for name in names} & known - {module}
        for module, names in graph.items()
    }
    assert style.cycles(inside) == []
