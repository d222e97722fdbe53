"""One request and one answer in every dialect that a node speaks: rows in, the same (prediction, scores) out."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import httpx
import numpy as np
import pyarrow as pa

from quarterdeck.schema import FeatureType, Label, Row, Schema

Answered = list[tuple[Label, list[float]]]
ARROW = "application/vnd.apache.arrow.stream"
DATATYPES: dict[FeatureType, str] = {"float": "FP64", "int": "INT64", "boolean": "BOOL", "string": "BYTES", "datetime": "BYTES"}
ARROWS: dict[FeatureType, pa.DataType] = {
    "float": pa.float64(),
    "int": pa.int64(),
    "boolean": pa.bool_(),
    "string": pa.string(),
    "datetime": pa.string(),
}


class Request(NamedTuple):
    """What is posted, its content type, and the length of the JSON part where there is more; 0: all of it is one."""

    path: str
    body: bytes
    media: str = "application/json"
    json_length: int = 0

    @property
    def headers(self) -> dict[str, str]:
        """The request's headers."""
        more = {"inference-header-content-length": str(self.json_length)} if self.json_length else {}
        return {"content-type": self.media, **more}


class Dialect(NamedTuple):
    """How rows are asked for, and how the answer is read."""

    request: Callable[[str, Schema, Sequence[Row]], Request]
    answered: Callable[[Schema, httpx.Response], Answered]


def columns(schema: Schema, rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Rows by column."""
    return {name: [row[name] for row in rows] for name in schema.names}


def tensors(schema: Schema, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One tensor per feature, with flat data."""
    found = columns(schema, rows)
    return [
        {"name": one.name, "shape": [len(rows)], "datatype": DATATYPES[one.type], "data": found[one.name]}
        for one in schema.features
    ]


def csv_text(schema: Schema, rows: Sequence[Row]) -> bytes:
    """Rows as CSV; null is an empty cell."""
    out = io.StringIO()
    lines = csv.writer(out)
    lines.writerow(schema.names)
    lines.writerows([_cell(row[name]) for name in schema.names] for row in rows)
    return out.getvalue().encode()


def arrow_table(schema: Schema, rows: Sequence[Row]) -> pa.Table:
    """Rows as a table of Arrow's."""
    found = columns(schema, rows)
    return pa.table({one.name: pa.array(found[one.name], ARROWS[one.type]) for one in schema.features})


def arrow_stream(table: pa.Table, **options: Any) -> bytes:
    """A table as an IPC stream."""
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return out.getvalue()


def binary_request(schema: Schema, rows: Sequence[Row], **more: Any) -> tuple[bytes, int]:
    """(body, bytes of its JSON part) of a request whose tensors are bytes; no value may be null."""
    parts, described = [], []
    for one in tensors(schema, rows):
        data = _bytes(one["datatype"], one.pop("data"))
        described.append({**one, "parameters": {"binary_data_size": len(data)}})
        parts.append(data)
    head = json.dumps({"inputs": described, **more}).encode()
    return head + b"".join(parts), len(head)


def _bytes(datatype: str, values: list[Any]) -> bytes:
    if datatype == "BYTES":
        texts = [value.encode() for value in values]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    return np.array(values, {"FP64": "<f8", "INT64": "<i8", "BOOL": "u1"}[datatype]).tobytes()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else value


def _json(path: str, document: Any) -> Request:
    return Request(path, json.dumps(document).encode())


def _plain(name: str, schema: Schema, rows: Sequence[Row]) -> Request:
    return _json(f"/deployments/{name}/predict", list(rows))


def _plain_answered(schema: Schema, answer: httpx.Response) -> Answered:
    return [(one["prediction"], list(one.get("scores", {}).values())) for one in answer.json()["predictions"]]


def _oip(name: str, schema: Schema, rows: Sequence[Row]) -> Request:
    return _json(f"/v2/models/{name}/infer", {"inputs": tensors(schema, rows)})


def _oip_nested(name: str, schema: Schema, rows: Sequence[Row]) -> Request:
    nested = [
        {**one, "shape": [len(rows), 1], "data": [[value] for value in one["data"]]} for one in reversed(tensors(schema, rows))
    ]
    return _json(f"/v2/models/{name}/infer", {"id": "abc", "parameters": {"content_type": "pd"}, "inputs": nested})


def _oip_answered(schema: Schema, answer: httpx.Response) -> Answered:
    return _paired(schema, {one["name"]: one["data"] for one in answer.json()["outputs"]})


def _binary(name: str, schema: Schema, rows: Sequence[Row]) -> Request:
    body, length = binary_request(schema, rows, parameters={"binary_data_output": True})
    return Request(f"/v2/models/{name}/infer", body, "application/octet-stream", length)


def _binary_answered(schema: Schema, answer: httpx.Response) -> Answered:
    place = int(answer.headers["inference-header-content-length"])
    found = {}
    for one in json.loads(answer.content[:place])["outputs"]:
        data = answer.content[place : place + one["parameters"]["binary_data_size"]]
        place += len(data)
        found[one["name"]] = _elements(one["datatype"], data)
    assert place == len(answer.content)
    return _paired(schema, found)


def _elements(datatype: str, data: bytes) -> list[Any]:
    if datatype != "BYTES":
        numbers: list[Any] = np.frombuffer(data, {"FP64": "<f8", "INT64": "<i8", "BOOL": "?"}[datatype]).tolist()
        return numbers
    found, place = [], 0
    while place < len(data):
        end = place + 4 + int.from_bytes(data[place : place + 4], "little")
        found.append(data[place + 4 : end].decode())
        place = end
    return found


def _paired(schema: Schema, found: dict[str, list[Any]]) -> Answered:
    width = len(schema.classes)
    scores = found.get("scores", [])
    return [(label, scores[at * width : (at + 1) * width]) for at, label in enumerate(found["prediction"])]


def _v1(name: str, schema: Schema, rows: Sequence[Row]) -> Request:
    return _json(f"/v1/models/{name}:predict", {"instances": list(rows)})


def _v1_lists(name: str, schema: Schema, rows: Sequence[Row]) -> Request:
    return _json(f"/v1/models/{name}/labels/main:predict", {"inputs": [[row[one] for one in schema.names] for row in rows]})


def _v1_answered(schema: Schema, answer: httpx.Response) -> Answered:
    found = answer.json()["predictions"]
    return [(one["prediction"], one["scores"]) if schema.classes else (one, []) for one in found]


def _tf(name: str, schema: Schema, rows: Sequence[Row]) -> Request:
    document = {"signature_name": "serving_default", "inputs": columns(schema, rows)}
    return _json(f"/v1/models/{name}:predict", document)


def _tf_answered(schema: Schema, answer: httpx.Response) -> Answered:
    found = answer.json()["outputs"]
    if not schema.classes:
        return [(one, []) for one in found]
    return list(zip(found["prediction"], found["scores"], strict=True))


def _mlflow(name: str, schema: Schema, rows: Sequence[Row]) -> Request:
    data = [[row[one] for one in schema.names] for row in rows]
    document: dict[str, Any] = {"dataframe_split": {"columns": schema.names, "index": list(range(len(rows))), "data": data}}
    if schema.classes:
        document["params"] = {"predict_method": "predict_proba"}
    return _json(f"/deployments/{name}/invocations", document)


def _mlflow_answered(schema: Schema, answer: httpx.Response) -> Answered:
    found = answer.json()["predictions"]
    return [(schema.classes[one.index(max(one))], one) if schema.classes else (one, []) for one in found]


def _dataiku(name: str, schema: Schema, rows: Sequence[Row]) -> Request:
    document = {"items": [{"features": row} for row in rows], "explanations": {"enabled": None, "method": None}}
    return _json(f"/public/api/v1/{name}/{name}/predict-multi", document)


def _dataiku_answered(schema: Schema, answer: httpx.Response) -> Answered:
    return [(one["prediction"], list(one.get("probas", {}).values())) for one in answer.json()["results"]]


def _csv(name: str, schema: Schema, rows: Sequence[Row]) -> Request:
    return Request(f"/deployments/{name}/predict", csv_text(schema, rows), "text/csv")


def _csv_answered(schema: Schema, answer: httpx.Response) -> Answered:
    (_, *lines) = csv.reader(io.StringIO(answer.text))
    texts = {_text(label): label for label in schema.classes}
    return [
        (texts[label], [float(score) for score in scores]) if schema.classes else (float(label), []) for label, *scores in lines
    ]


def _text(label: Label) -> str:
    return label if isinstance(label, str) else json.dumps(label)


def _arrow(name: str, schema: Schema, rows: Sequence[Row]) -> Request:
    return Request(f"/deployments/{name}/predict", arrow_stream(arrow_table(schema, rows)), ARROW)


def _arrow_dictionary(name: str, schema: Schema, rows: Sequence[Row]) -> Request:
    table = arrow_table(schema, rows)
    for at, one in enumerate(schema.features):
        if one.type == "string":
            table = table.set_column(at, one.name, table.column(at).dictionary_encode())
    return Request(f"/deployments/{name}/predict", arrow_stream(table), ARROW)


def _arrow_answered(schema: Schema, answer: httpx.Response) -> Answered:
    table = pa.ipc.open_stream(answer.content).read_all()
    table.validate(full=True)
    names = [f"score_{_text(label)}" for label in schema.classes]
    return [(row["prediction"], [row[name] for name in names]) for row in table.to_pylist()]


DIALECTS = {
    "plain": Dialect(_plain, _plain_answered),
    "oip": Dialect(_oip, _oip_answered),
    "oip-nested": Dialect(_oip_nested, _oip_answered),
    "oip-binary": Dialect(_binary, _binary_answered),
    "v1": Dialect(_v1, _v1_answered),
    "v1-lists": Dialect(_v1_lists, _v1_answered),
    "tf-columns": Dialect(_tf, _tf_answered),
    "mlflow": Dialect(_mlflow, _mlflow_answered),
    "dataiku": Dialect(_dataiku, _dataiku_answered),
    "csv": Dialect(_csv, _csv_answered),
    "arrow": Dialect(_arrow, _arrow_answered),
    "arrow-dictionary": Dialect(_arrow_dictionary, _arrow_answered),
}
