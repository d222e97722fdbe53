"""What surrounds predictions: life, readiness, metrics, what is deployed here, and its description for programs."""

from __future__ import annotations

from typing import Any

from quarterdeck.errors import NotReady
from quarterdeck.records import Answer
from quarterdeck_node.doors import form
from quarterdeck_node.doors.call import Call, Door, Reply, json_reply, plain_answer
from quarterdeck_node.doors.description import openapi
from quarterdeck_node.predictor import Slot


async def live(call: Call) -> Reply:
    """The loop turns: that is all that being alive means."""
    return json_reply({"live": True, "node": call.node.settings.node, "boot": call.node.boot})


async def ready(call: Call) -> Reply:
    """200 when everything that shall answer can; a drain changes nothing here until its very end, when nobody asks any more."""
    # Never load, store, plan server or challenger: none of them keeps this node from answering.
    missing = ["This node is about to close its door."] if call.node.leaving else call.node.missing()
    if missing:
        raise NotReady(
            missing[0],
            kind="node",
            name=call.node.settings.node,
            extra={"missing": missing},
            hint="Look at the deployment's versions in the deployer.",
        )
    return json_reply({"ready": True, "node": call.node.settings.node, "draining": call.node.draining})


async def metrics(call: Call) -> Reply:
    """Prometheus text."""
    return Reply(call.node.metrics.render(), media="text/plain; version=0.0.4; charset=utf-8")


async def deployments(call: Call) -> Reply:
    """The deployments that this caller may ask."""
    return json_reply({"deployments": [_summary(slot) for slot in form.visible(call)]})


async def deployment(call: Call) -> Reply:
    """One deployment: what answers, its schema, and golden rows as examples."""
    slot = call.slot or call.node.predictor.slot(call.name)
    document = _summary(slot)
    if slot.live is not None:
        manifest = slot.live.resident.manifest
        document["schema"] = manifest.data_schema.model_dump(mode="json", exclude_none=True)
        document["description"] = manifest.description
        classes = manifest.data_schema.classes
        document["examples"] = [
            {"record": golden.row, "answer": plain_answer(classes, Answer(golden.expected.prediction, golden.expected.scores))}
            for golden in manifest.golden[:3]
        ]
    return json_reply(document)


async def describe(call: Call) -> Reply:
    """OpenAPI of the deployments that this caller may ask."""
    return json_reply(openapi(call.node.settings.base_url, form.visible(call), call.node.limits.rows))


def _summary(slot: Slot) -> dict[str, Any]:
    plan = slot.plan
    found: dict[str, Any] = {
        "name": plan.name,
        "project": plan.project,
        "stage": plan.stage,
        "role": plan.role,
        "access": plan.access,
        "answers": slot.live is not None,
    }
    if slot.live is not None:
        ref = slot.live.resident.ref
        found |= {
            "model": ref.model,
            "version": ref.version,
            "digest": ref.digest,
            "revision": slot.live.plan.revision,
            "versions": sorted({*slot.versions, ref.version}),
        }
    return found


DOORS = (
    Door("GET", "/live", "open", live),
    Door("GET", "/ready", "open", ready),
    Door("GET", "/metrics", "open", metrics),
    Door("GET", "/openapi.json", "caller", describe),
    Door("GET", "/deployments", "caller", deployments),
    Door("GET", "/deployments/{name}", "read", deployment),
    *form.DOORS,
)
