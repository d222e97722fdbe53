"""A program laid out for evaluation: what is known before any row comes is worked out, and every width is checked.

Steps become blocks of segments. Columns that depend on one looked-up value alone stay a table of that value's rows through
scalers, imputers and checks, so that at run time one lookup does for all of them; the others are columns of nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from quarterdeck.compiled import kernels
from quarterdeck.compiled.entries import Entries
from quarterdeck.compiled.program import (
    Arithmetics,
    Bins,
    Interpolate,
    Linear,
    Link,
    Lookup,
    Mean,
    Normalize,
    Number,
    OneHot,
    Power,
    Products,
    Program,
    Quantile,
    Step,
    Take,
    Trees,
    inputs_of,
)
from quarterdeck.compiled.segments import Columns, Hot, Segment, Segments, Table, Unfit, joined, must, pick, width
from quarterdeck.schema import Schema

__all__ = ["FEATURES", "Ensemble", "Layout", "Node", "Source", "Unfit", "lay_out"]

LARGEST_TABLE = 500_000
"""Numbers in a one-hot table, 4 MB, beyond which it is not written out."""

FEATURES = 0
"""The node that holds every feature that is read as a number."""


class Ensemble(Protocol):
    """What the layout must know of a booster."""

    features: int
    outputs: int


@dataclass(slots=True)
class Source:
    """What a lookup reads, and the entry of each value. `refused` are entries that a later check lets nobody have."""

    place: int
    feature: str
    input: Segments
    entries: Entries[int]
    count: int
    refused: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Node:
    """Columns that are computed together: by `step`, from `inputs` (several for `mean` alone). The features have none."""

    place: int
    step: Step | None
    inputs: tuple[Segments, ...]
    width: int
    features: list[frozenset[str]]


@dataclass(slots=True)
class Layout:
    """A program ready to be evaluated: `blocks` of each step, the last of them being the scores."""

    schema: Schema
    program: Program
    names: list[str] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    blocks: list[Segments] = field(default_factory=list)

    @property
    def scores(self) -> Segments:
        """The last step's block."""
        return self.blocks[-1]

    def features_of(self, segments: Segments) -> list[frozenset[str]]:
        """The features that each column comes from."""
        found: list[frozenset[str]] = []
        for segment in segments:
            if isinstance(segment, Columns):
                found += [self.nodes[segment.node].features[place] for place in segment.places]
            else:
                found += [self.source_features(segment.source)] * segment.width
        return found

    def source_features(self, source: int) -> frozenset[str]:
        """The features that a looked-up value comes from."""
        read = self.sources[source]
        return frozenset([read.feature]) if read.feature else self.features_of(read.input)[0]

    def refusing_nodes(self) -> list[int]:
        """The nodes that may refuse a row: they are asked even where the scores do not need them, as the original would."""
        return [place for place, node in enumerate(self.nodes) if node.step is not None and kernels.refusals(node.step)]

    def refusing_sources(self) -> list[int]:
        """The lookups that may refuse a row, likewise."""
        return [place for place, source in enumerate(self.sources) if source.refused or len(source.entries.others()) < 2]

    def reached(self) -> list[int]:
        """The nodes that scores and refusals depend on, in their order."""
        found: set[int] = set()
        self._reach(self.scores, found)
        for place in self.refusing_nodes():
            self._reach((Columns(place, ()),), found)
        for place in self.refusing_sources():
            self._reach(self.sources[place].input, found)
        return sorted(found)

    def _reach(self, segments: Segments, found: set[int]) -> None:
        for segment in segments:
            if not isinstance(segment, Columns):
                self._reach(self.sources[segment.source].input, found)
            elif segment.node not in found:
                found.add(segment.node)
                for block in self.nodes[segment.node].inputs:
                    self._reach(block, found)


def lay_out(program: Program, schema: Schema, boosters: Mapping[str, Ensemble]) -> Layout:
    """Work out every step's block.

    Args:
        program: reads features of the schema.
        schema: of the model.
        boosters: by file, each that a step of the program names.

    Raises:
        Unfit: unknown features, widths or numbers of constants that do not fit.
    """
    layout = Layout(schema, program, nodes=[Node(-1, None, (), 0, [])])
    with np.errstate(all="ignore"):
        for place, step in enumerate(program.steps):
            try:
                layout.blocks.append(_block(layout, place, step, boosters))
            except Unfit as error:
                raise Unfit(f"step {place} ({step.op}) {error}") from None
    wanted = 1 if schema.task == "regression" else len(schema.classes)
    must(not any(isinstance(segment, Hot) for segment in layout.scores), "ends with columns of a wide encoder")
    must(width(layout.scores) == wanted, f"ends with {width(layout.scores)} columns where the schema speaks of {wanted}")
    explained = program.explain
    known = explained is None or (explained < len(program.steps) and isinstance(program.steps[explained], (Trees, Linear)))
    must(known, "explains a step that is neither trees nor linear")
    if explained is not None:
        # What no score is made from is not computed either.
        computed = {node.place for node in map(layout.nodes.__getitem__, layout.reached())}
        must(explained in computed, "explains a step that its scores do not come from")
    return layout


def _block(layout: Layout, place: int, step: Step, boosters: Mapping[str, Ensemble]) -> Segments:
    match step:
        case Number():
            return _number(layout, place, step)
        case Lookup() | OneHot():
            return _table(layout, place, step)
        case Take():
            return _take(layout, step)
        case Mean():
            return _mean(layout, place, step)
        case Linear() | Trees() | Products() | Normalize() | Link():
            block = layout.blocks[step.input]
            narrow = isinstance(step, (Linear, Trees)) or not any(isinstance(segment, Hot) for segment in block)
            must(narrow, "mixes columns of a wide encoder")
            return _node(layout, place, step, (block,), _outputs(step, width(block), boosters))
        case _:
            return _each(layout, place, step)


def _number(layout: Layout, place: int, step: Number) -> Segments:
    types = {feature.name: feature.type for feature in layout.schema.features}
    must(step.feature in types, f"reads {step.feature}, which is no feature")
    must(types[step.feature] not in ("string", "datetime"), f"reads {step.feature}, which is text, as a number")
    features = layout.nodes[FEATURES]
    if step.feature not in layout.names:
        layout.names.append(step.feature)
        features.features.append(frozenset([step.feature]))
        features.width += 1
    read: Segments = (Columns(FEATURES, (layout.names.index(step.feature),)),)
    return read if step.bounds is None else _node(layout, place, step, (read,), 1)


def _table(layout: Layout, place: int, step: Lookup | OneHot) -> Segments:
    must(bool(step.feature) != (step.input is not None), "looks up neither or both of a feature and a block")
    must(not step.feature or step.feature in layout.schema.names, f"reads {step.feature}, which is no feature")
    read = layout.blocks[step.input] if step.input is not None else ()
    must(step.input is None or width(read) == 1, "looks up a block of more than one column")
    entries = step.rows if isinstance(step, Lookup) else step.columns
    must(len(entries) == len(step.values), "has not one entry for each value")
    made = _listed(step, len(layout.sources)) if isinstance(step, Lookup) else _hot(step, len(layout.sources))
    # The entries beyond those of values: the unseen, then the missing.
    unseen = None if step.unseen is None else len(step.values)
    missing = None if step.missing is None else made.entries - 1
    known = {value: entry for entry, value in enumerate(step.values)}
    # Null may be one of the values as well.
    missing = known.pop(None, missing) if missing is None else missing
    found = Entries(known, unseen, missing)
    layout.sources.append(Source(place, step.feature, read, found, made.entries))
    return (made,)


def _listed(step: Lookup, source: int) -> Table:
    listed = [*step.rows, *([] if step.unseen is None else [step.unseen]), *([] if step.missing is None else [step.missing])]
    must(len({len(row) for row in listed}) == 1, "has rows of different widths, or none")
    return Table(source, np.array(listed, dtype=np.float64))


def _hot(step: OneHot, source: int) -> Table | Hot:
    places = [*step.columns, *([] if step.unseen is None else [step.unseen]), *([] if step.missing is None else [step.missing])]
    must(all(-1 <= column < step.width for column in places), "has a column beyond its width")
    hot = Hot(source, np.array(places, dtype=np.intp), np.ones(step.width))
    return hot if len(places) * step.width > LARGEST_TABLE else hot.table()


def _take(layout: Layout, step: Take) -> Segments:
    found: list[Segment] = []
    for place, column in step.parts:
        must(0 <= column < width(layout.blocks[place]), f"takes column {column} of step {place}, which has none")
    # Runs of one step are cut in one go: a wide encoder's table would be copied once per column otherwise.
    run: list[int] = []
    for number, (place, column) in enumerate(step.parts):
        run.append(column)
        if number + 1 == len(step.parts) or step.parts[number + 1][0] != place:
            found += pick(layout.blocks[place], run)
            run = []
    return joined(found)


def _mean(layout: Layout, place: int, step: Mean) -> Segments:
    inputs = tuple(layout.blocks[read] for read in step.inputs)
    must(len(step.weights) == len(inputs), "has not one weight for each block")
    must(not any(isinstance(segment, Hot) for block in inputs for segment in block), "mixes columns of a wide encoder")
    must(len({width(block) for block in inputs}) == 1, "has blocks of different widths")
    return _node(layout, place, step, inputs, width(inputs[0]))


def _node(layout: Layout, place: int, step: Step, inputs: tuple[Segments, ...], outputs: int) -> Segments:
    read = [layout.features_of(block) for block in inputs]
    features = [_features(step, read, column) for column in range(outputs)]
    layout.nodes.append(Node(place, step, inputs, outputs, features))
    return (Columns(len(layout.nodes) - 1, tuple(range(outputs))),)


def _features(step: Step, read: list[list[frozenset[str]]], column: int) -> frozenset[str]:
    """The features that one column of a node comes from."""
    if isinstance(step, (*kernels.EACH_COLUMN, Mean)):
        return frozenset().union(*(block[column] for block in read))
    if isinstance(step, Products):
        return frozenset().union(*(read[0][factor] for factor in step.factors[column]))
    return frozenset().union(*read[0])


def _outputs(step: Step, given: int, boosters: Mapping[str, Ensemble]) -> int:
    """The width of a step that mixes columns."""
    match step:
        case Linear():
            must(all(len(weights) == given for weights in step.weights), f"has not one weight for each of {given} columns")
            must(len(step.bias) == len(step.weights) > 0, "has not one bias for each output")
            return len(step.weights)
        case Trees():
            booster = boosters[step.file]
            # Compared before the first row: the library would read past the end of one that is too short.
            must(booster.features == given, f"gives {given} columns to {step.file}, which takes {booster.features}")
            must(booster.outputs == step.outputs, f"expects {step.outputs} outputs of {step.file}, which has {booster.outputs}")
            return step.outputs
        case Products():
            must(
                all(0 <= factor < given for factors in step.factors for factor in factors),
                "multiplies a column that is not there",
            )
            return len(step.factors)
        case Link(function="pair"):
            must(given == 1, "pairs a block of more than one column")
            return 2
        case _:
            return given


def _each(layout: Layout, place: int, step: Step) -> Segments:
    """A step that treats each column by itself: tables are worked out now, the other columns are one node."""
    block = layout.blocks[inputs_of(step)[0]]
    _constants(step, width(block))
    starts = np.cumsum([0, *(segment.width for segment in block)]).tolist()
    plain = [number for number, segment in enumerate(block) if isinstance(segment, Columns)]
    columns = [column for number in plain for column in range(starts[number], starts[number + 1])]
    node = -1
    if columns:
        made = _node(layout, place, kernels.cut(step, columns), (tuple(block[number] for number in plain),), len(columns))
        node = made[0].node if isinstance(made[0], Columns) else -1
    found: list[Segment] = []
    done = 0
    for number, segment in enumerate(block):
        if not isinstance(segment, Columns):
            found.append(_folded(layout, kernels.cut(step, range(starts[number], starts[number + 1])), segment))
        else:
            found.append(Columns(node, tuple(range(done, done + segment.width))))
            done += segment.width
    return joined(found)


def _folded(layout: Layout, step: Step, table: Table | Hot) -> Segment:
    function, refused = kernels.kernel(step), kernels.refusals(step)
    if isinstance(table, Hot):
        ends = np.stack([table.ones, np.zeros(table.width)], axis=1)
        made = function(ends)
        must(not made[:, 1].any(), "puts something else than 0 into the empty columns of a wide encoder")
        must(refused is None or not refused(ends).any(), "refuses columns of a wide encoder")
        return Hot(table.source, table.columns, made[:, 0])
    columns = np.ascontiguousarray(table.rows.T)
    if refused is not None:
        layout.sources[table.source].refused |= set(np.flatnonzero(refused(columns).any(axis=0)).tolist())
    return Table(table.source, np.ascontiguousarray(function(columns).T))


def _constants(step: Step, given: int) -> None:
    match step:
        case Arithmetics():
            must(len(step.by) == given, f"has not one constant for each of {given} columns")
            must(bool(np.isfinite(step.by).all()), "has a constant that is not finite")
        case Power():
            must(len(step.lambdas) == given, f"has not one power for each of {given} columns")
        case Quantile():
            must(len(step.quantiles) == given, f"has not one list of quantiles for each of {given} columns")
            fits = all(len(values) == len(step.references) > 0 for values in step.quantiles)
            must(fits, "has not one quantile for each reference")
        case Bins():
            must(len(step.edges) == given, f"has not one list of edges for each of {given} columns")
        case Interpolate():
            must(given == 1, "interpolates a block of more than one column")
            must(len(step.x) == len(step.y) > 0, "has not one y for each x")
        case _:
            pass
