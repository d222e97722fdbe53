"""docs/reference/pipelines.md: which pipelines are compiled, and how exactly they answer."""

from __future__ import annotations

from quarterdeck.compiling import registry, transform
from tools.pipeline_proof import Proof, proof, rounded
from tools.pipelines import Pipeline, catalogue
from tools.reference.tables import table

HEAD = """\
# Pipelines that are compiled

Each of these was trained on a small table with every type of column (floats, whole numbers, text, booleans, dates,
missing values in several spellings, rare categories), compiled, and compared with the original: on 10,000 rows in one
call, 200 of them one by one, and in rows that hold one edge value each (null, NaN, infinities, huge and tiny numbers,
negative zero, whole numbers for floats, unseen categories, empty text, features in another order).

A class that is not named here, and every subclass of somebody's own, is served by Python, as is a parameter that changes
what a class computes in a way that no step knows; `quarterdeck package inspect` says why.

- *compared*: rows that both answered. Of them, no label differs.
- *refused*: rows that both refused. None was refused by one alone.
- *difference*: what the largest difference between two scores stays within; of numbers above 1, in relation to them.

"""


def page() -> str:
    """The table, and the share that is compiled."""
    found = {one.name: proof(one.name) for one in catalogue()}
    rows = [_row(one, found[one.name]) for one in catalogue()]
    compiled = sum(not one.why_not for one in found.values())
    share = f"{compiled} of {len(found)} are compiled ({100 * compiled // len(found)} %). The others are served by Python.\n\n"
    return (
        HEAD
        + _classes()
        + share
        + table(["pipeline", "what stands in it", "task", "compiled", "compared", "refused", "difference"], rows)
    )


def _classes() -> str:
    return f"Transformers: {_names(transform.known())}.\n\nEstimators: {_names(registry.known())}.\n\n"


def _names(kinds: list[str]) -> str:
    return ", ".join(sorted({f"`{kind.rpartition('.')[2]}`" for kind in kinds}))


def _row(one: Pipeline, found: Proof) -> list[str]:
    if found.why_not:
        return [f"`{one.name}`", one.about, one.task, f"no: {found.why_not}", "", "", ""]
    good = not found.quarrels and not found.labels_different and found.largest <= 1e-9
    figures = [f"{found.rows:,}", str(found.refused), rounded(found.largest)]
    return [f"`{one.name}`", one.about, one.task, "yes" if good else "differs", *figures]
