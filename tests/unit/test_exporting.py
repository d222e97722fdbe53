"""The YAML of what runs, and its way back: `quarterdeck apply` finds nothing to change in it."""

from __future__ import annotations

import httpx
import pytest

from quarterdeck.client import Client
from quarterdeck.placement import Rollback
from quarterdeck.resources import Spec, read
from quarterdeck_deployer.exporting import document, exported
from quarterdeck_deployer.infrastructures.kubernetes_resource import differing
from quarterdeck_deployer.revisions import DeploymentInput, RevisionView
from tests.wishes import ref, wish

WISHES = [
    wish(),
    wish(stage="prod", service="flights", challenger=ref(2), access="public", records="off", running=False),
    wish(main=ref(1, trust="code"), challenger=ref(2, "trains", trust="code"), description="no: 1e3\n- \u2026", project="0"),
    wish(main=ref(1, accelerator="cuda"), rollback=Rollback(automatic=False, margin_percent=7), progress_seconds=33),
]


def registered(request: httpx.Request) -> httpx.Response:
    """A registry that knows the versions."""
    items = [{"version": number, "digest": ref(number).digest} for number in (1, 2)]
    return httpx.Response(200, json={"name": request.url.path, "items": items})


@pytest.mark.parametrize("one", WISHES, ids=range(len(WISHES)))
def test_what_is_exported_is_taken_back_without_a_change(one: RevisionView) -> None:
    """Field by field: the deployer's own form of the file is the wish that was exported."""
    (found,) = read(exported([one], {}))
    with Client("http://deployer", transport=httpx.MockTransport(registered)) as client:
        given = DeploymentInput.model_validate(client.wish(found, "because"))
    main, challenger = given.main, given.challenger
    assert (main.model, main.version, main.trust, main.accelerator) == (
        one.main.model,
        one.main.version,
        one.main.trust,
        one.main.accelerator,
    )
    assert (challenger is None) == (one.challenger is None)
    if challenger and one.challenger:
        assert (challenger.model, challenger.version, challenger.trust) == (
            one.challenger.model,
            one.challenger.version,
            one.challenger.trust,
        )
    alike = ("project", "stage", "service", "description", "access", "records", "running", "rollback", "progress_seconds")
    assert {part: getattr(given, part) for part in alike} == {part: getattr(one, part) for part in alike}


@pytest.mark.parametrize("one", WISHES, ids=range(len(WISHES)))
def test_a_cluster_finds_no_difference_in_it(one: RevisionView) -> None:
    """The same file, as a resource beside the wish."""
    assert differing(document(one).spec, one) == []


def test_nodes_of_a_cluster_go_along() -> None:
    """Their number and place are the resource's, and the file would be another one without them."""
    placed = Spec.model_validate(
        {"model": {"name": "x", "version": 9}, "nodes": {"replicas": 3}, "keyring": "ours", "store": {"url": "s3://far"}}
    )
    (found,) = read(exported([wish()], {"late": placed}))
    assert (found.spec.nodes.replicas, found.spec.keyring, found.spec.model.version) == (3, "ours", 1)
    assert found.spec.store is not None


def test_several_deployments_are_several_documents() -> None:
    """In their order; nothing for nothing."""
    assert [one.metadata.name for one in read(exported([wish(deployment="a"), wish(deployment="b")], {}))] == ["a", "b"]
    assert exported([], {}) == ""
