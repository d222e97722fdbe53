"""Versions that are wished for where they have never been: copied first, by whichever action, or refused and nothing written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from quarterdeck.copying import check_stored, holds
from quarterdeck.errors import Conflict, Forbidden, StorageError
from quarterdeck.storage import Storage
from quarterdeck.storage.keys import manifest_key
from quarterdeck.storage.memory import MemoryStorage
from quarterdeck_deployer.audit import Act
from quarterdeck_deployer.revisions import ChallengerInput, DeploymentInput, RollbackInput, SwapInput, VersionChoice
from tests.promotion_world import MODEL, Breaking, Stages, built, ref, stages

ME = Act(who="ann")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Stages]:
    """Versions 1 and 2 are published, and deployed nowhere."""
    with stages(tmp_path / "data") as found:
        found.publish(1)
        found.publish(2)
        yield found


@pytest.fixture
def edge(here: Stages, tmp_path: Path) -> Storage:
    """The store of the stage prod, where nothing lies."""
    return here.infrastructure("edge", str(tmp_path / "edge"), "prod")


def wish(main: int, project: str = "default") -> DeploymentInput:
    """That version as main in prod."""
    return DeploymentInput(stage="prod", project=project, main=VersionChoice(model=MODEL, version=main))


def test_what_is_deployed_in_a_stage_with_a_store_of_its_own_lies_there_first(here: Stages, edge: Storage) -> None:
    """Main and challenger, whole; a version that nobody wants there stays where it is."""
    here.deploy(1, stage="prod")
    assert check_stored(edge, ref(1)) == built(1).manifest
    assert not holds(edge, ref(2))
    here.world.do("challenger", version=2)
    assert check_stored(edge, ref(2)) == built(2).manifest
    assert here.main("late") == ("prod", 1, 2)


def test_a_version_is_promoted_that_its_stage_never_had(here: Stages, edge: Storage, tmp_path: Path) -> None:
    """The candidate comes from where all are published; what the source serves has nothing to do with it."""
    other = here.infrastructure("plant", str(tmp_path / "plant"), "staging")
    here.deploy(1, stage="staging")
    found = here.promote("prod", version=2)
    assert (found["state"], found["copied"]["files"]) == ("done", len(built(2).manifest.files)), found
    assert check_stored(edge, ref(2)) == built(2).manifest
    assert not holds(other, ref(2))


def test_nothing_moves_where_nothing_may_be_changed(here: Stages, edge: Storage) -> None:
    """Whoever is not in the project, or acts upon an older page, is refused before anything is copied."""
    deployments = here.world.deployer.deployments
    for act, refusal in ((Act(who="bob", projects=frozenset()), Forbidden), (Act(who="ann", expected=3), Conflict)):
        with pytest.raises(refusal):
            deployments.put("late", wish(1), act)
    assert list(edge.list("models/")) + list(edge.list("blobs/")) == []


def test_a_number_that_the_store_has_for_something_else_is_refused(here: Stages, edge: Storage) -> None:
    """Both digests are named, nothing is written over, and there is no deployment."""
    edge.put(manifest_key(MODEL, 1), built(2).manifest.canonical())
    body = {"main": {"model": MODEL, "version": 1}, "stage": "prod"}
    answer = here.world.http.put("/api/deployments/late", json=body)
    assert (answer.status_code, answer.json()["code"]) == (409, "version-taken")
    assert ref(1).digest in answer.json()["detail"]
    assert here.world.http.get("/api/deployments").json() == []


def test_a_copy_that_breaks_off_leaves_nothing_wished_and_is_carried_on_when_asked_again(here: Stages, edge: Storage) -> None:
    """The caller is told that the store failed; the same request later finishes what was begun."""
    infrastructures = here.world.deployer.infrastructures
    infrastructures._stores["edge"] = breaking = Breaking(at=2)
    deployments = here.world.deployer.deployments
    with pytest.raises(StorageError):
        deployments.put("late", wish(1), ME)
    assert deployments.living() == []
    assert not holds(breaking, ref(1))
    assert deployments.put("late", wish(1), ME).created
    assert check_stored(breaking, ref(1)) == built(1).manifest
    assert list(edge.list("models/")) + list(edge.list("blobs/")) == []


@pytest.mark.usefixtures("edge")
def test_the_way_back_asks_no_store(here: Stages) -> None:
    """Neither a swap nor a rollback needs what may be away: what they lead to was brought when it was first wished for."""
    deployments = here.world.deployer.deployments
    deployments.put("late", wish(1), ME)
    deployments.set_challenger("late", ChallengerInput(version=2), ME)
    here.world.deployer.infrastructures._stores["edge"] = Away("away")
    assert deployments.swap("late", SwapInput(), ME).changed
    assert deployments.clear_challenger("late", ME).changed
    assert deployments.rollback("late", RollbackInput(revision=1), ME).changed
    assert here.main("late") == ("prod", 1, 5)


class Away(MemoryStorage):
    """A store that answers nothing."""

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Fail."""
        raise StorageError("away", code="unreachable")
