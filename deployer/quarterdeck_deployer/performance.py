"""How well main and the challenger answered, measured on the very same rows: those that both answered and whose truth came.

Rows are grouped by the versions that answered them, so that a swap never mixes two pairs. Nothing here says which one is
better: these are plain averages, and averages alone do not carry a verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa

from quarterdeck.schema import Schema, Task
from quarterdeck_deployer.labels import label_text

SMALLEST_SCORE = 0.01
"""Log-loss reads the score of the true class as at least this, so that one bold mistake cannot outweigh everything."""

SchemaOf = Callable[[str, int, str], Schema | None]
"""(model, version, digest) → its schema; None where that version is not known, or is known by another digest."""


@dataclass(frozen=True)
class RoleScores:
    """One version's averages over the rows of its pair; measures that do not fit the task are None.

    `brier`: binary, the squared difference between the positive class's score and the truth; multiclass, summed over the
    classes. `accuracy`: share of right labels. `log_loss`: natural, of the true class's score, see `SMALLEST_SCORE`.
    `mae`, `rmse`: in units of the target.
    """

    model: str
    version: int
    digest: str
    rows: int
    brier: float | None = None
    accuracy: float | None = None
    log_loss: float | None = None
    mae: float | None = None
    rmse: float | None = None


@dataclass(frozen=True)
class PairScores:
    """Both roles on the same `rows`, predicted between `first` and `last`; no challenger: nobody answered beside main."""

    task: Task
    rows: int
    first: datetime
    last: datetime
    main: RoleScores
    challenger: RoleScores | None


@dataclass(frozen=True)
class Performance:
    """The newest pair, and all the others by their newest row."""

    newest: PairScores | None
    others: list[PairScores]


def measure(connection: duckdb.DuckDBPyConnection, deployment: str, schema_of: SchemaOf) -> Performance:
    """Averages of every pair of versions that answered labelled rows.

    Args:
        connection: holds the tables `main`, `challenger` and `labels` of the prediction index.
        deployment: whose rows.
        schema_of: schemas by version; rows of a version that it does not know are left out.
    """
    known = _known_versions(connection, deployment, schema_of)
    # DuckDB would infer no types from nothing, and there is nothing to measure.
    if known.num_rows == 0:
        return Performance(None, [])
    connection.register("known", known)
    try:
        cursor = connection.execute(_PAIRS, [deployment])
        names = [column[0] for column in cursor.description or []]
        pairs = [_pair(dict(zip(names, row, strict=True))) for row in cursor.fetchall()]
    finally:
        connection.unregister("known")
    return order(pairs)


def order(pairs: list[PairScores]) -> Performance:
    """Put the newest pair first.

    The challenger's answers arrive a little after main's, so the newest rows often have none yet. Main alone therefore counts
    as the newest only where its version has never been answered beside.
    """
    if not pairs:
        return Performance(None, [])
    ranked = sorted(pairs, key=lambda pair: pair.last, reverse=True)
    version = ranked[0].main.digest
    newest = next((pair for pair in ranked if pair.main.digest == version and pair.challenger), ranked[0])
    return Performance(newest, [pair for pair in ranked if pair is not newest])


def _role(rows: str, version: str) -> str:
    """SQL of one role's averages; `rows` is the alias of its answers, `version` that of its entry in `known`."""
    # Places count from 1 in DuckDB's lists.
    truth = f"list_position({version}.classes, label_text(l.value))"
    one = f"{rows}.scores[{version}.positive] - ({truth} = {version}.positive)::int"
    each = f"list_sum(list_transform({rows}.scores, lambda score, place: (score - (place = {truth})::int) ** 2))"
    right = f"label_text({rows}.prediction) = label_text(l.value)"
    surprise = f"-ln(greatest({rows}.scores[{truth}], {SMALLEST_SCORE}))"
    # Numbers are JSON text, in which a double is written like a double.
    error = f"(try_cast({rows}.prediction as double) - try_cast(l.value as double))"
    return f"""
    any_value({rows}.model) as {rows}_model, any_value({rows}.version) as {rows}_version, {rows}.digest as {rows}_digest,
    avg(case {version}.task when 'binary' then ({one}) ** 2 when 'multiclass' then {each} end) as {rows}_brier,
    avg(case when {version}.task != 'regression' then ({right})::int end) as {rows}_accuracy,
    avg(case when {version}.task != 'regression' then {surprise} end) as {rows}_log_loss,
    avg(case {version}.task when 'regression' then abs({error}) end) as {rows}_mae,
    sqrt(avg(case {version}.task when 'regression' then {error} ** 2 end)) as {rows}_rmse,
    """


# A row on which the challenger failed has no pair: it belongs neither to the pair nor to main alone.
# A label outside a version's classes can be judged for neither role, so the whole row is left out.
_PAIRS = f"""
select {_role("m", "vm")} {_role("c", "vc")}
    vm.task as task, count(*) as rows, min(m.ts) as first, max(m.ts) as last
from main m
join labels l using (deployment, row_id)
join known vm on vm.digest = m.digest
left join challenger c using (deployment, row_id)
left join known vc on vc.digest = c.digest
where deployment = ? and (c.row_id is null or (c.result = 'answered' and vc.digest is not null))
    and (vm.task = 'regression' or (list_position(vm.classes, label_text(l.value)) is not null
        and (vc.digest is null or list_position(vc.classes, label_text(l.value)) is not null)))
group by m.digest, c.digest, vm.task
"""


def _known_versions(connection: duckdb.DuckDBPyConnection, deployment: str, schema_of: SchemaOf) -> pa.Table:
    query = """select distinct model, version, digest from main where deployment = $1
        union select distinct model, version, digest from challenger where deployment = $1"""
    rows = list(_described(connection.execute(query, [deployment]).fetchall(), schema_of))
    text = pa.string()
    kinds = pa.schema([("digest", text), ("task", text), ("classes", pa.list_(text)), ("positive", pa.int64())])
    return pa.Table.from_pylist(rows, schema=kinds)


def _described(versions: list[tuple[str, int, str]], schema_of: SchemaOf) -> Iterator[dict[str, Any]]:
    for model, version, digest in versions:
        schema = schema_of(model, version, digest)
        if schema is not None:
            classes = [label_text(label) for label in schema.classes]
            # By text: 1 and true are equal in Python, and are different labels.
            positive = classes.index(label_text(schema.positive)) + 1 if schema.task == "binary" else None
            yield {"digest": digest, "task": schema.task, "classes": classes, "positive": positive}


def _pair(row: dict[str, Any]) -> PairScores:
    return PairScores(
        task=row["task"],
        rows=row["rows"],
        first=row["first"].replace(tzinfo=UTC),
        last=row["last"].replace(tzinfo=UTC),
        main=_scores(row, "m_"),
        challenger=_scores(row, "c_") if row["c_digest"] else None,
    )


def _scores(row: dict[str, Any], prefix: str) -> RoleScores:
    names = ("model", "version", "digest", "brier", "accuracy", "log_loss", "mae", "rmse")
    return RoleScores(rows=row["rows"], **{name: row[prefix + name] for name in names})
