"""What each feature contributed to an answer: `POST /deployments/{name}/explain`, and the same for the dialects that have it.

Contributions and the base add up to the raw score, which is what the model works out before a link makes it a probability.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from quarterdeck.compiled.explain import Contribution, Contributions
from quarterdeck.errors import NotExplainable, ValueRefused
from quarterdeck.schema import Row
from quarterdeck_node.doors.call import Call, Door, Reply, json_reply
from quarterdeck_node.predictor import Snapshot
from quarterdeck_node.runtimes import guilty


@runtime_checkable
class Explaining(Protocol):
    """A model that can be asked for contributions."""

    def explain(self, rows: Sequence[Row]) -> list[Contributions]:
        """One list per row, one contribution per output of the step that is explained.

        Raises:
            NotExplainable: it cannot; the detail says why.
            ValueRefused: it refuses a row; `extra["row"]` is its place.
        """


async def contributions(snapshot: Snapshot, rows: Sequence[Row]) -> list[Contributions]:
    """Contributions for rows that are bound to the snapshot's schema.

    Raises:
        NotExplainable: this version cannot say; the detail says why.
        ValueRefused: the model refuses a row; the detail names it.
    """
    resident = snapshot.resident
    model = getattr(resident.runtime, "model", None)
    if not isinstance(model, Explaining):
        manifest = resident.manifest
        raise NotExplainable(
            f"{snapshot.ref} is served in the form {manifest.form}, whose models are not looked into"
            + (f": {manifest.fallback}" if manifest.fallback else "."),
            hint="Ask a compiled version.",
        )
    # Many times dearer than a prediction: not in the turn of everybody else, and in a task, which a thread is waited for in.
    await asyncio.sleep(0)
    resident.users += 1
    try:
        return await asyncio.to_thread(model.explain, rows)
    except ValueRefused as error:
        raise guilty.named(error, error.extra.get("row", 0)) from error
    finally:
        resident.users -= 1


async def explained(snapshot: Snapshot, rows: Sequence[Row]) -> list[list[dict[str, Any]]]:
    """The same as JSON objects: for each row one per output, with the class that it speaks of where it speaks of one."""
    names = snapshot.resident.manifest.data_schema.names
    return [[_shown(one, names) for one in row] for row in await contributions(snapshot, rows)]


async def explain(call: Call) -> Reply:
    """Say what each feature of each record contributed to its raw score."""
    body = await call.body("application/json")
    snapshot = call.take()
    rows, _ = snapshot.resident.binder.read(body)
    ref = snapshot.ref
    return json_reply(
        {
            "request_id": call.request_id,
            "deployment": snapshot.plan.name,
            "model": ref.model,
            "version": ref.version,
            "digest": ref.digest,
            "revision": snapshot.plan.revision,
            "explanations": await explained(snapshot, rows),
        }
    )


def _shown(one: Contribution, names: list[str]) -> dict[str, Any]:
    named = {} if one.label is None else {"label": one.label}
    # A feature that the model never reads adds nothing.
    added = {name: one.features.get(name, 0.0) for name in names}
    return {**named, "base": one.base, "contributions": added, "raw": one.raw}


DOORS = (Door("POST", "/deployments/{name}/explain", "predict", explain, "plain"),)
