"""A program for one row: the source of one Python function without a loop, written from the layout when a package is loaded.

Nothing of a package becomes source but the `repr` of names and numbers; tables and functions lie in the function's namespace.
Whatever goes wrong in it (a value that a table does not have, a division by zero, a score that is no number) is given to
`otherwise`, which takes its time and either answers or names the feature.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from struct import Struct
from typing import Any

import numpy as np

from quarterdeck.compiled import kernels, values
from quarterdeck.compiled.batch import parted
from quarterdeck.compiled.layout import FEATURES, Layout, Node
from quarterdeck.compiled.program import (
    Apply,
    Arithmetics,
    Bins,
    Check,
    Interpolate,
    Linear,
    Link,
    Mean,
    Number,
    Power,
    Products,
    Quantile,
    Step,
    Trees,
)
from quarterdeck.compiled.segments import Columns, Hot, Segment, Segments, Table, at
from quarterdeck.compiled.trees import Booster, Precision
from quarterdeck.schema import Row

RowScores = Callable[[Row], tuple[float, ...]]
# Infinity as a literal of Python's, which the compiler makes a constant of the function.
_FINITE = "-1e999 < {0} < 1e999"
# Beyond these, expressions are cut into statements: the parser nests only so deep.
_TERMS = 40
_DEPTH = 24
_JOINED = 6
# From here on one call that fetches several features is faster than as many subscripts.
_GOT = 3

_ARITHMETIC = {
    "add": "({0} + {1})",
    "subtract": "({0} - {1})",
    "multiply": "({0} * {1})",
    "divide": "({0} / {1})",
    "minimum": "({1} if ({2} := {0}) > {1} else {2})",
    "maximum": "({1} if ({2} := {0}) < {1} else {2})",
    "fill": "({1} if ({2} := {0}) != {2} else {2})",
    "lift": "({1} if 0.0 < ({2} := {0}) < {1} else {2})",
}
# Exact in plain Python; all others are numpy's own, whose last bits depend on the processor.
_PLAIN = {
    "abs": "abs({0})",
    "negative": "(-{0})",
    "square": "(({1} := {0}) * {1})",
    "reciprocal": "(1.0 / {0})",
    "isnan": "(1.0 if ({1} := {0}) != {1} else 0.0)",
}


def row_function(layout: Layout, boosters: Mapping[str, Booster], otherwise: RowScores) -> RowScores:
    """The function that scores one row.

    Args:
        layout: of the program.
        boosters: by file.
        otherwise: answers the rows that the function cannot, or raises for them.
    """
    return _Writer(layout, boosters, otherwise).function()


class _Writer:
    def __init__(self, layout: Layout, boosters: Mapping[str, Booster], otherwise: RowScores) -> None:
        self._layout = layout
        self._boosters = boosters
        self._space: dict[str, Any] = {"otherwise": otherwise, "nan": math.nan, "quiet": np.errstate}
        self._lines: list[str] = []
        self._names: dict[tuple[int, int], str] = {}
        self._depths: Counter[str] = Counter()
        self._count = 0
        self._uses = _uses(layout)
        self._nullable = {feature.name for feature in layout.schema.features if feature.nullable}
        self._numpy = False
        self._asked: set[int] = set()

    def function(self) -> RowScores:
        """Compile what is written."""
        for place in self._layout.refusing_nodes():
            for column in range(self._layout.nodes[place].width):
                self._names[place, column] = self._local(self._column(place, column))
        scores = [self._local(cell) for cell in self._cells(self._layout.scores, floats=True)]
        for number in self._layout.refusing_sources():
            if number not in self._asked:
                self._line(self._found(number, dict.fromkeys(range(self._layout.sources[number].count), 0)))
        finite = " and ".join(_FINITE.format(score) for score in scores)
        self._line(f"if {finite}: return ({', '.join(scores)},)")
        lines = ["with quiet(all='ignore'):", *[f"    {line}" for line in self._lines]] if self._numpy else self._lines
        body = "\n".join(f"        {line}" for line in lines)
        source = f"def scores(row):\n    try:\n{body}\n    except Exception: pass\n    return otherwise(row)\n"
        exec(compile(source, "<program>", "exec"), self._space)
        found: RowScores = self._space["scores"]
        return found

    def _line(self, line: str) -> None:
        self._lines.append(line)

    def _new(self, prefix: str = "v") -> str:
        self._count += 1
        return f"{prefix}{self._count}"

    def _constant(self, thing: object, prefix: str = "c") -> str:
        """A name for something that is not written down."""
        name = self._new(prefix)
        self._space[name] = thing
        return name

    def _number(self, value: float) -> str:
        # Infinities have no name in Python's source: weights and biases may be some.
        return f"({value!r})" if math.isfinite(value) else self._constant(value)

    def _local(self, expression: str) -> str:
        """The same in a variable, where it is none yet."""
        if expression.isidentifier():
            return expression
        name = self._new()
        self._line(f"{name} = {expression}")
        return name

    def _cells(self, segments: Segments, *, floats: bool = False) -> list[str]:
        """An expression for each column; whole numbers become floats where the arithmetic would not make them so."""
        return [self._cell(segment, place, floats) for segment in segments for place in range(segment.width)]

    def _cell(self, segment: Segment, place: int, floats: bool = False) -> str:
        if not isinstance(segment, Columns):
            return self._found(segment.source, dict(enumerate(segment.column(place).tolist())))
        node, column = segment.node, segment.places[place]
        made = self._column(node, column)
        return f"float({made})" if floats and self._may_be_whole(node, column) else made

    def _column(self, node: int, column: int) -> str:
        key = (node, column)
        if key in self._names:
            return self._names[key]
        made = self._made(node, column)
        if key in self._names:
            return self._names[key]
        if self._uses[key] > 1 or self._depths[made] > _DEPTH:
            made = self._names[key] = self._local(made)
        return made

    def _made(self, place: int, column: int) -> str:
        node = self._layout.nodes[place]
        step = node.step
        if step is None:
            return self._feature(self._layout.names[column])
        match step:
            case Mean():
                return self._mean(step, [self._cell(*at(block, column), floats=True) for block in node.inputs])
            case Products():
                return self._product(step, column, node.inputs[0])
            case Check() | Number():
                return self._checked(place, node, step)[column]
            case _ if isinstance(step, kernels.EACH_COLUMN):
                segment, cell = at(node.inputs[0], column)
                return self._each(step, column, segment, cell)
        self._names |= {(place, number): name for number, name in enumerate(self._whole(place, node, step))}
        return self._names[place, column]

    def _feature(self, name: str) -> str:
        if name not in self._nullable:
            return f"row[{name!r}]"
        temporary = self._new()
        return f"(nan if ({temporary} := row[{name!r}]) is None else {temporary})"

    def _each(self, step: Step, column: int, segment: Segment, cell: int) -> str:
        given = self._cell(segment, cell, floats=not isinstance(step, Arithmetics))
        match step:
            case Arithmetics():
                made = _ARITHMETIC[step.function].format(given, self._number(step.by[column]), self._new())
            case Apply() if step.function in _PLAIN:
                made = _PLAIN[step.function].format(given, self._new())
            case Apply():
                self._numpy = True
                made = f"float({self._constant(getattr(np, step.function), 'f')}({given}))"
            case Power() | Quantile() | Interpolate():
                self._numpy = self._numpy or isinstance(step, Power)
                made = f"{self._constant(values.one_value(step, column), 'f')}({given})"
            case Bins():
                made = f"float({self._constant(bisect_right, 'f')}({self._constant(step.edges[column])}, {given}))"
            case _:
                raise TypeError(step.op)
        self._depths[made] = self._depths[given] + 1
        return made

    def _checked(self, place: int, node: Node, step: Check | Number) -> list[str]:
        names = [self._local(cell) for cell in self._cells(node.inputs[0])]
        self._names |= {(place, number): name for number, name in enumerate(names)}
        if isinstance(step, Number):
            low, high = step.bounds or (-math.inf, math.inf)
            conditions = [f"{name} < {self._number(low)} or {name} > {self._number(high)}" for name in names]
        else:
            conditions = [_refusal(step, name) for name in names]
        wrong = " or ".join(condition for condition in conditions if condition)
        if wrong:
            self._line(f"if {wrong}: return otherwise(row)")
        return names

    def _whole(self, place: int, node: Node, step: Step) -> list[str]:
        """The columns of a step that makes them all at once."""
        block = node.inputs[0]
        if isinstance(step, Linear):
            return self._linear(step, block)
        names = [self._new() for _ in range(node.width)]
        together = f"{', '.join(names)}, = "
        if isinstance(step, Trees):
            score = self._boosters[step.file].row_function(transform=step.transform, precision=step.precision)
            self._line(f"{together}{self._constant(score, 'f')}({self._bytes(step, block)})")
            return names
        given = self._cells(block, floats=True)
        functions: dict[str, Any] = {"softmax": values.softmax, "normalize": values.shares, "bayes": values.bayes}
        if isinstance(step, Link) and step.function == "pair":
            second = self._local(given[0])
            return [self._local(f"1.0 - {second}"), second]
        if isinstance(step, Link) and step.function in ("sigmoid", "exp"):
            one = self._constant(values.sigmoid if step.function == "sigmoid" else values.exponential, "f")
            return [self._local(f"{one}({cell})") for cell in given]
        function = functions[step.function] if isinstance(step, Link) else _all_at_once(step)
        self._line(f"{together}{self._constant(function, 'f')}(({', '.join(given)},))")
        return names

    def _mean(self, step: Mean, cells: Sequence[str]) -> str:
        # A weight of one changes no bit.
        terms = [
            cell if weight == 1.0 else f"{cell} * {self._number(weight)}"
            for cell, weight in zip(cells, step.weights, strict=True)
        ]
        return f"(({self._added(terms)}) / {self._number(kernels.weight_sum(step))})"

    def _product(self, step: Products, column: int, block: Segments) -> str:
        cells = [self._cell(*at(block, factor), floats=True) for factor in step.factors[column]]
        return f"({' * '.join(reversed(cells))})" if cells else "1.0"

    def _linear(self, step: Linear, block: Segments) -> list[str]:
        sums: list[list[str]] = [[] for _ in step.weights]
        per_output = [parted(block, weights) for weights in step.weights]
        for number, segment in enumerate(block):
            parts = [parts[number][1] for parts in per_output]
            if not isinstance(segment, Columns):
                found = self._several(segment.source, np.stack([segment.weighted(part) for part in parts], axis=1))
            else:
                cells = self._cells((segment,))
                found = [self._weighted(part, cells) for part in parts]
            for terms, term in zip(sums, found, strict=True):
                terms.append(term)
        return [self._local(self._added([*terms, self._number(bias)])) for terms, bias in zip(sums, step.bias, strict=True)]

    def _weighted(self, weights: Sequence[float], cells: Sequence[str]) -> str:
        return f"({self._added([f'{cell} * {self._number(weight)}' for cell, weight in zip(cells, weights, strict=True)])})"

    def _several(self, source: int, rows: kernels.Block) -> list[str]:
        if rows.shape[1] == 1:
            return [self._found(source, dict(enumerate(rows[:, 0].tolist())))]
        names = [self._new() for _ in range(rows.shape[1])]
        self._line(f"{', '.join(names)}, = {self._found(source, dict(enumerate(map(tuple, rows.tolist()))))}")
        return names

    def _added(self, terms: Sequence[str]) -> str:
        """The sum, from left to right."""
        total = " + ".join(terms[:_TERMS])
        for start in range(_TERMS, len(terms), _TERMS):
            total = f"{self._local(total)} + {' + '.join(terms[start : start + _TERMS])}"
        return total

    def _bytes(self, step: Trees, block: Segments) -> str:
        """A row as the C library takes it: packed numbers and rows of tables one after the other."""
        pieces = [self._piece(segment, step.precision) for segment in block]
        return " + ".join(pieces) if len(pieces) < _JOINED else f"b''.join(({', '.join(pieces)}))"

    def _piece(self, segment: Segment, precision: Precision) -> str:
        if isinstance(segment, Columns):
            return self._packed(segment, "d" if precision == "float64" else "f")
        if isinstance(segment, Table):
            rows = {entry: row.astype(precision).tobytes() for entry, row in enumerate(segment.rows)}
            return self._found(segment.source, rows)
        column = self._found(segment.source, dict(enumerate(segment.columns.tolist())))
        return f"{self._constant(_spread(segment, precision), 'f')}({column})"

    def _packed(self, columns: Columns, code: str) -> str:
        pack = self._constant(Struct(f"={columns.width}{code}").pack, "f")
        return f"{pack}({', '.join(self._arguments(columns))})"

    def _arguments(self, columns: Columns) -> list[str]:
        found: list[str] = []
        plain: list[str] = []
        for place in range(columns.width + 1):
            name = self._plain_feature(columns, place) if place < columns.width else ""
            if name:
                plain.append(name)
                continue
            if len(plain) < _GOT:
                found += [f"row[{name!r}]" for name in plain]
            else:
                found.append(f"*{self._constant(itemgetter(*plain), 'f')}(row)")
            plain = []
            if place < columns.width:
                found.append(self._cell(columns, place))
        return found

    def _plain_feature(self, columns: Columns, place: int) -> str:
        """The name of a feature that is taken as it comes, empty for any other column."""
        name = self._layout.names[columns.places[place]] if columns.node == FEATURES else ""
        return "" if name in self._nullable else name

    def _found(self, source: int, results: Mapping[int, object]) -> str:
        """What a lookup gives, by the result of each entry."""
        self._asked.add(source)
        read = self._layout.sources[source]
        allowed = {entry: result for entry, result in results.items() if entry not in read.refused}
        key = f"row[{read.feature!r}]" if read.feature else self._cell(read.input[0], 0, floats=True)
        return f"{self._constant(read.entries.mapped(allowed), 't')}[{key}]"

    def _may_be_whole(self, place: int, column: int) -> bool:
        """Whether a column may hold Python's ints and booleans, whose arithmetic among themselves is another."""
        node = self._layout.nodes[place]
        if node.step is None:
            return True
        keeps = isinstance(node.step, (Check, Number)) or (
            isinstance(node.step, Arithmetics) and node.step.function in ("fill", "lift", "minimum", "maximum")
        )
        segment, cell = at(node.inputs[0], column) if keeps else (None, 0)
        return isinstance(segment, Columns) and self._may_be_whole(segment.node, segment.places[cell])


def _uses(layout: Layout) -> Counter[tuple[int, int]]:
    """How often each column is read."""
    found: Counter[tuple[int, int]] = Counter()
    # Looked-up columns count twice: each of several tables may be asked with them.
    blocks = [layout.scores, *(source.input for source in layout.sources), *(source.input for source in layout.sources)]
    for number in layout.reached():
        node = layout.nodes[number]
        repeated = len(node.step.weights) if isinstance(node.step, Linear) else 1
        blocks += [block for block in node.inputs for _ in range(repeated)]
        if isinstance(node.step, Products):
            for segment, place in [at(node.inputs[0], factor) for factors in node.step.factors for factor in factors]:
                if isinstance(segment, Columns):
                    found[segment.node, segment.places[place]] += 1
    for block in blocks:
        for segment in block:
            if isinstance(segment, Columns):
                found.update((segment.node, place) for place in segment.places)
    return found


def _refusal(step: Check, name: str) -> str:
    """The condition under which a check refuses a value."""
    limit = repr(kernels.FLOAT32_LIMIT) if step.float32 else "1e999"
    if not step.nan and not step.infinite:
        # One chain of comparisons, which NaN fails too.
        return f"not -{limit} {'<=' if step.float32 else '<'} {name} {'<=' if step.float32 else '<'} {limit}"
    conditions = [] if step.nan else [f"{name} != {name}"]
    if not step.infinite:
        conditions.append(f"{name} in (1e999, -1e999)")
    if step.float32:
        conditions.append(f"{limit} < abs({name}) < 1e999")
    return " or ".join(conditions)


def _spread(hot: Hot, precision: Precision) -> Callable[[int], bytes]:
    """The bytes of a wide row by the column that is not 0."""
    numbers = [number.tobytes() for number in hot.ones.astype(precision)]
    size = len(numbers[0])
    empty = bytes(size * len(numbers))

    def spread(column: int) -> bytes:
        return empty if column < 0 else empty[: size * column] + numbers[column] + empty[size * (column + 1) :]

    return spread


def _all_at_once(step: Step) -> Callable[[Sequence[float]], list[float]]:
    function = kernels.whole(step)

    def several(values: Sequence[float]) -> list[float]:
        with np.errstate(all="ignore"):
            found: list[float] = function(np.array(values)[:, None])[:, 0].tolist()
            return found

    return several
