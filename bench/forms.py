"""The forms in which servers take rows: from the same rows to each dialect's request body."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

Rows = list[Any]
"""Customers as objects by column, or rows of 20 floats as lists."""
ROTATION = 32
"""Different single rows that a load generator sends in turn."""


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _named(rows: Rows) -> Rows:
    """Rows of floats as objects by column."""
    return [{f"f{place}": value for place, value in enumerate(row)} for row in rows]


def _tensor(name: str, shape: list[int], values: list[Any]) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": "BYTES" if isinstance(values[0], str) else "FP64", "data": values}


def _column_tensors(rows: Rows) -> list[dict[str, Any]]:
    return [_tensor(name, [len(rows)], [row[name] for row in rows]) for name in rows[0]]


def _matrix_tensor(rows: Rows) -> dict[str, Any]:
    return _tensor("x", [len(rows), len(rows[0])], [value for row in rows for value in row])


def _pandas_tensors(rows: Rows) -> bytes:
    """As MLServer wants columns that are to become a DataFrame."""
    inputs = _column_tensors(rows)
    for tensor in inputs:
        if tensor["datatype"] == "BYTES":
            tensor["parameters"] = {"content_type": "str"}
    return _json({"parameters": {"content_type": "pd"}, "inputs": inputs, "outputs": [{"name": "predict_proba"}]})


def _split(rows: Rows) -> bytes:
    columns = list(rows[0])
    return _json({"dataframe_split": {"columns": columns, "data": [[row[name] for name in columns] for row in rows]}})


def _arrow(rows: Rows) -> bytes:
    batch = pa.RecordBatch.from_pylist(rows)
    target = pa.BufferOutputStream()
    with pa.ipc.new_stream(target, batch.schema) as stream:
        stream.write_batch(batch)
    return bytes(target.getvalue())


def _all(body_of: Callable[[Rows], bytes]) -> dict[Any, Callable[[Rows], bytes]]:
    return {"single": body_of, "batch": body_of}


FORMS: Mapping[str, Mapping[Any, Callable[[Rows], bytes]]] = {
    "record": {
        "single": lambda rows: _json(rows[0]),
        "batch": _json,
        "booster": lambda rows: _json(rows[0]),
    },
    "records": _all(lambda rows: _json({"records": rows})) | {"booster": lambda rows: _json({"rows": rows})},
    "instances": dict.fromkeys(("single", "batch", "booster"), lambda rows: _json({"instances": rows})),
    "v2": _all(_pandas_tensors) | {"booster": lambda rows: _json({"inputs": [_matrix_tensor(rows)]})},
    "split": _all(_split) | {"booster": lambda rows: _json({"inputs": rows})},
    "plain": {
        "single": lambda rows: _json(rows[0]),
        "batch": _json,
        "booster": lambda rows: _json(_named(rows)[0]),
    },
    "oip": _all(lambda rows: _json({"inputs": _column_tensors(rows)}))
    | {"booster": lambda rows: _json({"inputs": [_matrix_tensor(rows)]})},
    "arrow": {"batch": _arrow},
    "number": {"single": lambda _: _json({"number": 1.0})},
}
"""Form → work → body of some rows. Single rows are asked for one by one."""
