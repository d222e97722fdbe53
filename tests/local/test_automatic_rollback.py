"""A version that fails its callers is taken back by itself, on the real programs."""

from __future__ import annotations

from tests.code_models import code_package
from tests.local.shared import Shared
from tests.support import eventually

# The second version was built and proven with numbers up to 9: only callers find out.
CALM = """
class Model:
    def predict(self, rows):
        return [2 * row["number"] for row in rows]

def load(folder):
    return Model()
"""
WOBBLY = CALM.replace("return [", "assert max(row['number'] for row in rows) < 100\n        return [")


def test_a_version_that_fails_its_callers_is_taken_back(shared: Shared) -> None:
    """The version before answers again by itself, the wish stays, and the condition says what happened and what to do."""
    name = "wobbly"
    refs = [shared.publish(f"{name}-{number}", code_package(text, name)) for number, text in enumerate((CALM, WOBBLY), 1)]

    def deploy(version: int) -> int:
        return shared.deploy(name, refs[version - 1], model={"name": name, "version": version, "trust": "code"})

    deploy(1)
    assert {shared.ask(name, {"number": 1000.0}).json()["version"] for _ in range(60)} == {1}
    deploy(2)
    statuses: list[int] = []

    def answered_again() -> bool:
        statuses.append(shared.ask(name, {"number": 1000.0}).status_code)
        return statuses[-1] == 200

    eventually(answered_again, every=0.02)

    assert set(statuses[:-1]) == {500}
    found = shared.client.deployment(name)
    assert found["wish"]["main"]["version"] == 2
    observed = found["observed"]
    assert observed["main"]["ref"]["version"] == 1
    assert observed["hold"]["code"] == "rolled-back"
    [said] = [one for one in observed["conditions"] if one["type"] == "RolledBack"]
    assert (said["status"], said["reason"]) == ("True", "ErrorRate")
    assert f"{name} v2 was taken back after" in said["message"]
    assert f"{name} v1 before it 0 of 60 requests (0.0 %)" in said["message"]
    # It does not come back by itself.
    assert {shared.ask(name, {"number": 1000.0}).json()["version"] for _ in range(200)} == {1}
    # Whoever applies the same file again has chosen it again.
    deploy(2)
    assert shared.ask(name, {"number": 1.0}).json()["version"] == 2


def test_it_can_be_switched_off(shared: Shared) -> None:
    """Then the bad version answers on, and the condition shows its figures."""
    name = "wobbly-on-purpose"
    refs = [shared.publish(f"{name}-{number}", code_package(text, name)) for number, text in enumerate((CALM, WOBBLY), 1)]
    for number, ref in enumerate(refs, 1):
        model = {"name": name, "version": number, "trust": "code"}
        shared.deploy(name, ref, model=model, rollback={"automatic": False, "minRequests": 5})
    assert {shared.ask(name, {"number": 1000.0}).status_code for _ in range(20)} == {500}

    def reason() -> str:
        conditions = shared.client.deployment(name)["observed"]["conditions"]
        return str(next(one["reason"] for one in conditions if one["type"] == "RolledBack"))

    eventually(lambda: reason() == "NotAutomatic")
    assert shared.ask(name, {"number": 1.0}).json()["version"] == 2
