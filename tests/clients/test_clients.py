"""Clients that no one here wrote, as they are: each asks a real node and gets what the model answers in this process."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import httpx
import pytest

from quarterdeck.forms import load
from quarterdeck.schema import Row
from tests.clients.conftest import SECRET, Place, asked
from tests.dialects import ARROW, DATATYPES, DIALECTS, arrow_stream, arrow_table, columns, csv_text
from tests.models import table
from tests.nodes import binary, written

DTYPES = {"float": "float64", "int": "int64", "boolean": "bool"}
MANIFEST = binary().manifest
SCHEMA = MANIFEST.data_schema


def rows(count: int = 7) -> list[Row]:
    """Rows that the model has not seen, of floats, whole numbers, truths and texts."""
    frame = table(seed=2)[SCHEMA.names].dropna()[:count]
    return [{str(name): value for name, value in row.items()} for row in frame.astype(object).to_dict("records")]


ROWS = rows()
ANSWERS = load(MANIFEST, written(binary()), allow_code=False).predict(ROWS)
LABELS = [answer.prediction for answer in ANSWERS]
SCORES = [answer.scores for answer in ANSWERS]


def told(url: str, **more: Any) -> dict[str, Any]:
    """What a script needs to ask for the rows."""
    datatypes = {one.name: DATATYPES[one.type] for one in SCHEMA.features}
    given = {"rows": ROWS, "columns": columns(SCHEMA, ROWS), "datatypes": datatypes}
    return {"url": url, "name": "mixed", "version": "1", **given, **more}


def test_tritonclient_over_http(public: str) -> None:
    """NVIDIA's: metadata, readiness, index, tensors as bytes and as JSON, and its error."""
    said = asked("triton", **told(public))
    assert said["live"]
    assert said["ready"]
    assert said["server"]["extensions"] == ["binary_tensor_data", "model_repository"]
    assert said["index"] == [{"name": "mixed", "version": "1", "state": "READY", "reason": ""}]
    assert [one["name"] for one in said["inputs"]] == SCHEMA.names
    for form in ("binary", "binary-all", "json", "json-all"):
        assert said[form] == {"prediction": LABELS, "scores": SCORES, "id": "abc"}, form
    assert "distance is missing" in said["refused"]


def test_tritonclient_over_grpc(place: Place) -> None:
    """NVIDIA's: readiness, metadata, tensors, and an error with its status."""
    said = asked("triton_grpc", **told(place.grpc))
    assert (said["live"], said["ready"], said["inputs"]) == (True, True, SCHEMA.names)
    assert said["found"] == {"prediction": LABELS, "scores": SCORES, "id": "abc"}
    assert said["refused"][0] == "StatusCode.INVALID_ARGUMENT"
    assert "distance is missing" in said["refused"][1]


def test_kserve_over_grpc(place: Place) -> None:
    """KServe's, whose messages cannot share a process with NVIDIA's."""
    said = asked("kserve_grpc", **told(place.grpc))
    assert said["ready"]
    assert said["found"] == {"prediction": LABELS, "scores": SCORES, "id": "abc"}


def test_kserve_in_both_protocols(public: str) -> None:
    """KServe's: readiness, V2 as bytes and as JSON, V1 with explanations, and its error."""
    said = asked("kserve", **told(public))
    assert (said["live"], said["ready"], said["v1-ready"]) == (True, True, True)
    flat = [score for scores in SCORES for score in scores]
    for form in ("binary", "json"):
        found = said[form]
        scores = found["scores"]
        assert (found["prediction"], found["id"]) == (LABELS, "abc")
        assert (scores if isinstance(scores[0], float) else [one for row in scores for one in row]) == flat, form
    expected = [{"prediction": label, "scores": scores} for label, scores in zip(LABELS, SCORES, strict=True)]
    assert said["v1"]["predictions"] == said["explained"]["predictions"] == expected
    assert len(said["explained"]["explanations"]) == len(ROWS)
    assert "distance" in said["refused"]


def test_mlflows_client_of_scoring_servers(public: str) -> None:
    """MLflow's: readiness, version, a data frame of typed columns, labels and scores, and its error."""
    dtypes = {one.name: DTYPES.get(one.type, "object") for one in SCHEMA.features}
    said = asked("mlflow", **told(public, dtypes=dtypes))
    assert (said["labels"], said["scores"]) == (LABELS, SCORES)
    assert said["version"]
    assert "BAD_REQUEST" in said["refused"]
    assert "distance" in said["refused"]


def test_dataikus_client_of_api_nodes(closed: str) -> None:
    """Dataiku's: a key as user name, a token, one record and many, a forced generation, explanations, and its errors."""
    said = asked("dataiku", **told(closed, service="flights", key=SECRET))
    expected = [
        {"ignored": False, "prediction": label, "probas": dict(zip(("false", "true"), scores, strict=True))}
        for label, scores in zip(LABELS, SCORES, strict=True)
    ]
    assert [one["result"] for one in said["one"]] == said["many"]["results"] == expected
    assert said["forced"]["result"] == said["bearer"]["result"] == expected[0]
    assert len(said["explained"]["result"]["explanations"]) == 2
    assert "unauthenticated" in said["stranger"]
    assert "distance" in said["refused"]


CURLED = {
    "plain": ("/deployments/mixed/predict", "application/json", json.dumps(ROWS).encode()),
    "csv": ("/deployments/mixed/predict", "text/csv", csv_text(SCHEMA, ROWS)),
    "arrow": ("/deployments/mixed/predict", ARROW, arrow_stream(arrow_table(SCHEMA, ROWS))),
    "v1": ("/v1/models/mixed:predict", "application/json", json.dumps({"instances": ROWS}).encode()),
    "tf-columns": (
        "/v1/models/mixed/versions/1:predict", "application/json", json.dumps({"inputs": columns(SCHEMA, ROWS)}).encode()
    ),
}  # fmt: skip


@pytest.mark.parametrize("dialect", CURLED)
def test_curl(public: str, dialect: str) -> None:
    """With nothing but a content type, as everybody tries it first."""
    path, media, body = CURLED[dialect]
    command = ["curl", "--silent", "--show-error", "--fail-with-body", "-H", f"Content-Type: {media}"]
    command += ["--data-binary", "@-", public + path]
    done = subprocess.run(command, input=body, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout
    answered = DIALECTS[dialect].answered(SCHEMA, httpx.Response(200, content=done.stdout))
    assert answered == list(zip(LABELS, SCORES, strict=True))
