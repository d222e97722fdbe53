"""What a spec names, and how it becomes versions with digests: nodes are asked, and their first answer is kept."""

from __future__ import annotations

from typing import Any

import pytest

from quarterdeck.plan import DeploymentReport, NodeReport, Resolved, VersionName
from quarterdeck.resources import Spec
from quarterdeck_operator.resolution import MOST_PINS, resolve, wish
from tests.reconcile.world import NAME, digest


def _spec(**fields: Any) -> Spec:
    return Spec.model_validate({"model": {"name": NAME, "version": 2}, **fields})


def _report(node: str, *found: Resolved, generation: int = 1) -> NodeReport:
    deployment = DeploymentReport(name=NAME, role="main", generation=generation, resolved=list(found))
    return NodeReport(node=node, boot="b", role="main", url="", sequence=1, ready=False, deployments=[deployment])


def _found(version: int, its: str | None) -> Resolved:
    return Resolved(model=NAME, version=version, digest=its, code="" if its else "not-found", reason="" if its else "No.")


@pytest.mark.parametrize(
    ("spec", "pins", "asked", "reason"),
    [
        (_spec(), {}, [2], "Resolving"),
        (_spec(), {f"{NAME}/2": digest(2)}, [], "Pinned"),
        (_spec(model={"name": NAME, "version": 2, "digest": digest(2)}), {}, [], "Pinned"),
        (_spec(model={"name": NAME, "version": 2, "digest": digest(9)}), {f"{NAME}/2": digest(2)}, [], "DigestDiffers"),
        (_spec(model={"name": NAME, "digest": digest(2)}), {f"{NAME}/2": digest(2)}, [], "Pinned"),
        (_spec(model={"name": NAME, "digest": digest(2)}), {}, [], "VersionMissing"),
        (_spec(pin={"version": 1, "reason": "r"}), {f"{NAME}/2": digest(2)}, [1], "Resolving"),
        (_spec(pin={"version": 1, "digest": digest(1), "reason": "r"}), {f"{NAME}/2": digest(2)}, [], "Pinned"),
        (_spec(challenger={"version": 3}), {f"{NAME}/2": digest(2)}, [3], "Pinned"),
    ],
)
def test_what_is_known_is_used_and_the_rest_asked_for(spec: Spec, pins: dict[str, str], asked: list[int], reason: str) -> None:
    """Digests of the spec, then of the pins; nodes are asked for numbers alone."""
    found = resolve(spec, pins, [], 1)
    assert found.resolve == [VersionName(model=NAME, version=version) for version in asked]
    assert found.condition.reason == reason


def test_main_does_not_stand_in_for_a_pin_that_is_looked_up() -> None:
    """A rollback that is not known yet must not roll forward."""
    found = resolve(_spec(pin={"version": 1, "reason": "r"}), {f"{NAME}/2": digest(2)}, [], 1)
    assert found.main is None
    assert found.pin is None


def test_the_first_answer_is_kept_whatever_comes_later() -> None:
    """A package that is exchanged under its number is never served."""
    first = resolve(_spec(), {}, [_report("b", _found(2, digest(8))), _report("a", _found(2, digest(2)))], 1)
    assert first.pins == {f"{NAME}/2": digest(2)}
    later = resolve(_spec(), first.pins, [_report("a", _found(2, digest(9)))], 1)
    assert later.pins == first.pins


def test_a_refusal_counts_for_its_own_wish_and_only_where_nobody_found_it() -> None:
    """One node without the store does not speak for the others, nor an old wish for a new one."""
    refused = _report("a", _found(2, None))
    assert resolve(_spec(), {}, [refused], 1).condition.reason == "NotFound"
    assert resolve(_spec(), {}, [refused], 2).condition.reason == "Resolving"
    assert resolve(_spec(), {}, [refused, _report("b", _found(2, digest(2)))], 1).known


def test_a_challengers_digest_that_is_not_known_is_told_as_such() -> None:
    """It is set; it is only not known yet."""
    found = resolve(_spec(challenger={"version": 3}), {f"{NAME}/2": digest(2)}, [_report("a", _found(3, None))], 1)
    assert found.challenger is None
    assert found.challenger_condition is not None
    assert (found.challenger_condition.status, found.challenger_condition.reason) == ("False", "NotFound")


def test_pins_are_bounded() -> None:
    """The oldest go; a ConfigMap has an end."""
    pins = {f"{NAME}/{number}": digest(number) for number in range(1, MOST_PINS + 3)}
    found = resolve(_spec(), pins, [], 1)
    assert len(found.pins) == MOST_PINS
    assert f"{NAME}/1" not in found.pins


def test_only_another_version_is_a_new_choice() -> None:
    """More pods or another reason lift no rejection; another version or pin does."""
    assert wish(_spec(nodes={"replicas": 5})) == wish(_spec())
    assert wish(_spec(pin={"version": 1, "reason": "a"})) == wish(_spec(pin={"version": 1, "reason": "b"}))
    assert wish(_spec(pin={"version": 1, "reason": "r"})) != wish(_spec())
    assert wish(_spec(model={"name": NAME, "version": 3})) != wish(_spec())
