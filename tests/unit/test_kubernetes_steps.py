"""What is done about a resource, as tables: who owns what, what differs, and the one deed that follows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from quarterdeck.placement import Rollback
from quarterdeck_deployer.infrastructures.kubernetes_fields import MANAGER, Object, owners, standing, standing_owner
from quarterdeck_deployer.infrastructures.kubernetes_resource import (
    REVISION,
    differing,
    document,
    parts,
    revision_of,
    spec_of,
)
from quarterdeck_deployer.infrastructures.kubernetes_steps import (
    Adopt,
    Deed,
    Delete,
    Drop,
    Nothing,
    Release,
    Wait,
    Write,
    readable,
    towards,
    without,
)
from quarterdeck_deployer.revisions import RevisionView
from tests.wishes import ref, wish

ARGO, EDIT, CLIENT_SIDE = "argocd-controller", "kubectl-edit", "kubectl-client-side-apply"


def field_set(spec: Any) -> Object:
    """The fields of a spec in the form of `managedFields`."""
    return {f"f:{name}": field_set(value) for name, value in spec.items()} if isinstance(spec, dict) else {}


def resource(spec: dict[str, Any], revision: int | None = 3, *others: tuple[str, dict[str, Any]], **more: Any) -> Object:
    """A resource with this spec, of which `others` own their parts."""
    entries = [
        {"manager": manager, "operation": "Apply", "time": f"2026-01-01T00:00:{at:02}Z", "fieldsV1": {"f:spec": field_set(its)}}
        for at, (manager, its) in enumerate(others)
    ]
    ours = {"manager": MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": {"f:running": {}}}}
    annotations = {} if revision is None else {REVISION: str(revision)}
    metadata = {"name": "late", "annotations": annotations, "managedFields": [*entries, ours], "resourceVersion": "5", **more}
    return {"metadata": metadata, "spec": spec}


def written(of: RevisionView, **more: Any) -> dict[str, Any]:
    """The spec as the deployer writes it."""
    return {**parts(of), **more}


@pytest.mark.parametrize(
    ("manager", "stands"),
    [
        (ARGO, True),
        ("kustomize-controller", True),
        ("Terraform", True),
        ("kubectl", True),
        (CLIENT_SIDE, True),
        (EDIT, False),
        ("kubectl-patch", False),
        ("kubectl-create", False),
        ("before-first-apply", False),
        ("quarterdeck-operator", False),
        (MANAGER, False),
    ],
)
def test_a_manager_stands_for_a_file_or_for_a_hand(manager: str, stands: bool) -> None:
    """`kubectl apply` has a file behind it, `kubectl edit` has not."""
    assert standing(manager) is stands


def test_owners_are_told_newest_first_without_ourselves_and_the_status() -> None:
    """The status belongs to the operator, whatever it is called."""
    found = resource({}, 3, (EDIT, {"model": {"version": 1}}), (ARGO, {"model": {"name": "a"}, "access": "public"}))
    status = {"manager": "x", "subresource": "status", "fieldsV1": {"f:status": {}, "f:spec": {"f:model": {}}}}
    found["metadata"]["managedFields"].append(status)
    assert owners(found) == {"model": (ARGO, EDIT), "access": (ARGO,)}
    assert standing_owner(owners(found), "model") == ARGO
    assert standing_owner(owners(found), "records") == ""


def test_defaults_that_a_file_says_nothing_of_are_nobodys() -> None:
    """`kubectl apply` sends a whole object, and owns what the API server filled in; its note tells the two apart."""
    note = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps({"spec": {"model": {"version": 1}}})}
    found = resource({}, None, (CLIENT_SIDE, {"model": {"version": 1}, "running": True}))
    found["metadata"]["managedFields"][0]["operation"] = "Update"
    found["metadata"]["annotations"] = note
    assert standing_owner(owners(found), "model") == CLIENT_SIDE
    assert standing_owner(owners(found), "running") == ""
    assert owners(found)["running"]
    found["metadata"]["annotations"] = dict.fromkeys(note, "no JSON")
    assert standing_owner(owners(found), "running") == CLIENT_SIDE


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"model": {"name": "flights", "version": 1}}, []),
        ({"model": {"name": "flights", "digest": ref(1).digest}}, []),
        ({"model": {"name": "flights", "version": 1, "trust": "code"}}, []),
        ({"model": {"name": "flights", "version": 2}}, ["model"]),
        ({"model": {"name": "trains", "version": 1}}, ["model"]),
        ({"model": {"name": "flights", "version": 1, "digest": ref(2).digest}}, ["model"]),
        ({"model": {"name": "flights", "version": 1, "accelerator": "cuda"}}, ["model"]),
        ({"pin": {"version": 2, "reason": "x"}}, ["model"]),
        ({"pin": {"version": 1, "reason": "x"}, "model": {"name": "flights", "version": 2}}, []),
        ({"challenger": {"version": 2}}, ["challenger"]),
        ({"access": "public", "running": False}, ["access", "running"]),
        ({"rollback": {"automatic": False}, "progressSeconds": 20}, ["rollback", "progressSeconds"]),
        (
            {"service": "flights", "project": "x", "records": "off", "description": "d"},
            ["project", "service", "description", "records"],
        ),
        # Not the deployer's: how many nodes, where, which attempt, which stage it is called by.
        ({"nodes": {"replicas": 4}, "attempt": 9, "stage": "other", "keyring": "mine"}, []),
    ],
)
def test_what_differs_is_what_means_something_else(change: dict[str, Any], expected: list[str]) -> None:
    """A number without a digest is the same version, and more trust than needed is no other wish."""
    assert differing(spec_of({"spec": {**written(wish()), **change}}), wish()) == expected


def test_a_wish_that_is_written_differs_in_nothing() -> None:
    """Whatever it holds."""
    every = wish(
        challenger=ref(2, "trains", trust="code"),
        main=ref(1, trust="code", accelerator="cuda"),
        service="flights",
        description="what for",
        access="project",
        records="off",
        running=False,
        rollback=Rollback(automatic=False, margin_percent=3),
        progress_seconds=33,
    )
    assert differing(spec_of({"spec": written(every)}), every) == []
    assert document(every, written(every))["metadata"]["annotations"][REVISION] == "3"


@pytest.mark.parametrize(("text", "number"), [("3", 3), ("", None), ("x", None), ("-1", None), ("٣", None)])
def test_the_revision_is_read_where_it_is_one(text: str, number: int | None) -> None:
    """Whatever somebody made of the annotation."""
    found = resource({}, None)
    found["metadata"]["annotations"][REVISION] = text
    assert revision_of(found) == number


def kind(deed: Deed) -> str:
    """Its name."""
    return type(deed).__name__


FILED = (ARGO, {"model": {"name": "flights", "version": 2}, "access": "instance"})
BY_HAND = (EDIT, {"model": {"name": "flights", "version": 2}})
OLD = {"model": {"name": "flights", "version": 2}}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, Write),
        (resource(written(wish()), 3), Nothing),
        (resource(written(wish()), 2), Write),
        (resource(written(wish()), None), Write),
        (resource(written(wish()), 4), Adopt),
        (resource(written(wish(), **OLD), 3), Adopt),
        (resource(written(wish(), **OLD), 2), Write),
        (resource(written(wish(), **OLD), None), Adopt),
        (resource(written(wish(), pin={"version": 1, "reason": "x"}), 3), Drop),
        (resource(written(wish(), pin={"version": 1, "reason": "x"}), 3, (ARGO, {"pin": {"version": 1}})), Nothing),
        (resource(written(wish(), pin={"version": 1, "reason": "x"}, **OLD), 3, FILED), Nothing),
        (resource(written(wish()), 2, deletionTimestamp="now"), Wait),
        (resource({"model": {"name": "flights"}}, 3), Wait),
        (resource({**written(wish()), "future": 1}, 3), Wait),
    ],
)
def test_one_deed_follows(found: Object | None, expected: type) -> None:
    """From the annotation and what differs."""
    assert kind(readable(wish(), found, {})) == expected.__name__


@pytest.mark.parametrize(
    ("found", "said", "left", "force"),
    [
        # A file owns main: a pin, and nothing of what the file says.
        (resource(written(wish(), **OLD), 2, FILED), {"pin"}, {"model", "access"}, False),
        # The file says what is wished: no pin.
        (resource(written(wish()), 2, (ARGO, {"model": {"version": 1}})), set(), {"model", "pin"}, False),
        # Of another model no pin can speak.
        (resource(written(wish(), model={"name": "b", "version": 1}), 2, FILED), set(), {"model", "pin"}, False),
        # By hand: taken over.
        (resource(written(wish(), **OLD), 2, BY_HAND), {"model"}, {"pin"}, True),
        # A pin by hand is turned; one that says the same is left to be dropped later.
        (resource(written(wish(), pin={"version": 2, "reason": "x"}), 2, (EDIT, {"pin": {}})), {"pin", "model"}, set(), True),
        (resource(written(wish(), pin={"version": 1, "reason": "x"}), 2, (EDIT, {"pin": {}})), {"model"}, {"pin"}, False),
        # A pin of a file is not ours to turn.
        (resource(written(wish(), pin={"version": 2, "reason": "x"}), 2, (ARGO, {"pin": {}})), {"model"}, {"pin"}, False),
        # Our own pin goes with the apply.
        (resource(written(wish(), pin={"version": 2, "reason": "x"}), 2), {"model"}, {"pin"}, False),
    ],
)
def test_what_is_written_leaves_files_alone(found: Object, said: set[str], left: set[str], force: bool) -> None:
    """And takes over what was said by hand."""
    deed = towards(wish(), found, {})
    assert isinstance(deed, Write)
    spec = deed.document["spec"]
    assert said <= spec.keys()
    assert not left & spec.keys()
    assert deed.force is force


def test_a_part_that_somebody_said_by_hand_is_dropped_first() -> None:
    """Leaving it out of ours would not end it."""
    found = resource(written(wish(), challenger={"version": 2}), 2, (EDIT, {"challenger": {"version": 2}}))
    deed = towards(wish(), found, {})
    assert isinstance(deed, Write)
    assert deed.drop == ("challenger",)


def test_what_the_infrastructure_adds_is_written_along() -> None:
    """Keyring and store of a namespace that has its own."""
    deed = towards(wish(), None, {"keyring": "mine"})
    assert isinstance(deed, Write)
    assert deed.document["spec"]["keyring"] == "mine"


@pytest.mark.parametrize(
    ("found", "deleted", "expected"),
    [
        (resource(written(wish()), 2), 3, Delete),
        (resource(written(wish()), 2, FILED), 3, Release),
        (resource(written(wish()), None), 3, Adopt),
        (resource(written(wish()), 4), 3, Adopt),
        (resource(written(wish()), 4), 0, Adopt),
        (resource(written(wish()), 2, deletionTimestamp="now"), 3, Nothing),
    ],
)
def test_a_resource_without_a_deployment(found: Object, deleted: int, expected: type) -> None:
    """Deleted here, or never known."""
    assert kind(without(found, deleted)) == expected.__name__


@pytest.mark.parametrize(
    ("found", "who", "why"),
    [
        (resource(written(wish(), **OLD), 3, BY_HAND), EDIT, "Changed in the cluster: spec.model."),
        (resource(written(wish(), access="public"), 3, (ARGO, {"access": "public"})), ARGO, "Stays as it is in the cluster: "),
        (resource(written(wish(), **OLD), None, FILED), ARGO, "The resource was in the cluster before the deployer wrote it."),
        (resource(written(wish()), 9, FILED), ARGO, "The cluster has revision 9, this database 3"),
        (resource(written(wish(), challenger={"version": 2}), 3), "somebody in the cluster", "Changed in the cluster"),
    ],
)
def test_an_adoption_says_whose_it_is_and_why(found: Object, who: str, why: str) -> None:
    """By the field manager's own name."""
    deed = towards(wish(), found, {})
    assert isinstance(deed, Adopt)
    assert deed.who == who
    assert deed.why.startswith(why)


def test_an_adopted_deployment_whose_resource_was_deleted_waits_for_a_person() -> None:
    """A file that was withdrawn is not made again; a wish of a person is."""
    deed = towards(wish(kind="adopt"), None, {})
    assert isinstance(deed, Wait)
    assert "quarterdeck delete late" in deed.sentence
