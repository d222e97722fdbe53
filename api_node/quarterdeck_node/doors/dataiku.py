"""Dataiku's API node: an endpoint is a deployment, a service is what several of them may share.

A deployment that belongs to no service is reached under its own name as service. A generation is a version: `v3`, or 3.
A key is the user name of HTTP's Basic scheme, with an empty password, or a Bearer token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quarterdeck.compiled.explain import Contributions
from quarterdeck.errors import InvalidInput, Malformed, NotExplainable, NotFound, QuarterdeckError
from quarterdeck.records import Answer
from quarterdeck.schema import Label, Row
from quarterdeck_node.doors.call import Call, Door, Reply, json_reply, label_text
from quarterdeck_node.doors.description import release
from quarterdeck_node.doors.dialect import expect, refused, version_number
from quarterdeck_node.doors.explain import contributions
from quarterdeck_node.predictor import Snapshot

_API_VERSION = "1"
_SHARED = ("explanations", "dispatch")
_EXPLANATIONS = ("enabled", "method", "nExplanations", "nMonteCarloSteps")
_MAX_ID = 128


async def predict(call: Call) -> Reply:
    """Answer one record."""
    document, snapshot = await _opened(call, ("features", "context", *_SHARED))
    _remember(call, document.get("context"))
    (result,) = await _results(call, snapshot, [document.get("features")], document)
    return _answered(call, snapshot, {"result": result})


async def predict_many(call: Call) -> Reply:
    """Answer several records."""
    document, snapshot = await _opened(call, ("items", *_SHARED))
    items = document.get("items")
    if not isinstance(items, list):
        raise Malformed("items must be a list of records.", kind="member", name="items")
    given = [expect(item, ("features", "context"), "An item").get("features") for item in items]
    return _answered(call, snapshot, {"results": await _results(call, snapshot, given, document)})


def refusal(error: QuarterdeckError, call: Call) -> Reply:
    """An error as its clients read it."""
    reply = refused(error, call, {"errorType": error.code, "message": error.detail, "detailedMessage": str(error)})
    reply.headers = _headers()
    return reply


async def _opened(call: Call, members: tuple[str, ...]) -> tuple[dict[str, Any], Snapshot]:
    """The request's document and the version that answers it."""
    body = await call.body("application/json")
    slot = call.slot or call.node.predictor.slot(call.name)
    if call.scope["path_params"]["service"] != (slot.plan.service or slot.plan.name):
        raise NotFound(f"{call.name} is no endpoint of this service.", kind="service", hint="GET /deployments/{name} names it.")
    document = expect(call.document(body), members, "The request")
    return document, call.take(_generation(document.get("dispatch"), call.name))


def _generation(dispatch: Any, name: str) -> int | None:
    """The version that is asked for; None for the active one, whatever the key of the dispatch: there is no split."""
    if dispatch is None:
        return None
    forced = expect(dispatch, ("forcedGeneration", "dispatchKey"), "dispatch").get("forcedGeneration")
    return None if forced is None else version_number(str(forced).removeprefix("v"), name)


def _remember(call: Call, context: Any) -> None:
    """A context's `id` is the caller's own id of the request, as x-request-id is elsewhere."""
    if context is None:
        return
    if not isinstance(context, dict):
        raise Malformed("context must be an object.", kind="member", name="context")
    identity = context.get("id")
    if isinstance(identity, str) and len(identity) <= _MAX_ID and identity.isascii() and identity.isprintable():
        call.caller_id = identity


async def _results(call: Call, snapshot: Snapshot, given: list[Any], document: dict[str, Any]) -> list[dict[str, Any]]:
    resident = snapshot.resident
    wanted = expect(document.get("explanations") or {}, _EXPLANATIONS, "explanations")
    rows = resident.binder.rows(given)
    # First, for what cannot be explained is refused whole, and must not have been recorded as answered.
    explained = await _explained(snapshot, rows, wanted) if wanted.get("enabled") else None
    predicted = await call.predict(snapshot, rows, "dataiku")
    classes = resident.manifest.data_schema.classes
    results = [_result(classes, answer) for answer in predicted.answers]
    if explained is not None:
        most = _most(wanted.get("nExplanations"))
        for result, given_for in zip(results, explained, strict=True):
            result["explanations"] = _largest(given_for, result["prediction"], most)
    return results


def _result(classes: list[Label], answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = {"ignored": False, "prediction": answer.prediction}
    if classes:
        found["probas"] = {label_text(label): score for label, score in zip(classes, answer.scores, strict=True)}
    return found


def _most(given: Any) -> int | None:
    if given is None or (type(given) is int and given > 0):
        return given
    raise InvalidInput("nExplanations must be a whole number above 0.", kind="member", name="nExplanations")


async def _explained(snapshot: Snapshot, rows: Sequence[Row], wanted: dict[str, Any]) -> list[Contributions]:
    method = wanted.get("method")
    if method == "ICE":
        raise NotExplainable("Only explanations of the method SHAPLEY are worked out here.", hint="Ask for SHAPLEY, or for none.")
    if method not in (None, "SHAPLEY"):
        raise InvalidInput("This method is not known.", kind="member", name="method", hint="Ask for SHAPLEY, or for none.")
    return await contributions(snapshot, rows)


def _largest(given: Contributions, prediction: Label, most: int | None) -> dict[str, float]:
    """The contributions to the predicted class's score, or to the only one, that weigh most; all where no number is given."""
    one = next((one for one in given if one.label == prediction), given[0])
    return dict(sorted(one.features.items(), key=lambda item: -abs(item[1]))[:most])


def _answered(call: Call, snapshot: Snapshot, document: dict[str, Any]) -> Reply:
    document["apiContext"] = {
        "serviceId": call.scope["path_params"]["service"],
        "endpointId": call.name,
        "serviceGeneration": f"v{snapshot.ref.version}",
    }
    reply = json_reply(document)
    reply.headers = _headers()
    return reply


def _headers() -> tuple[tuple[bytes, bytes], ...]:
    return ((b"dss-api-version", _API_VERSION.encode()), (b"dss-version", release().encode()))


_ENDPOINT = "/public/api/v1/{service}/{name}"
DOORS = (
    Door("POST", _ENDPOINT + "/predict", "predict", predict, "dataiku", refusal),
    Door("POST", _ENDPOINT + "/predict-multi", "predict", predict_many, "dataiku", refusal),
)
