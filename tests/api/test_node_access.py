"""Access: every door, every mode, every kind of key; and no door that does not state who may enter."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable, Iterator

import pytest

from quarterdeck_node.app import DOORS
from tests.dialects import DIALECTS
from tests.nodes import LocalNode, deployment, encoding, key, local_node

SECRETS = {
    "none": "",
    "unknown": "unknown",
    "mine": "mine",
    "elsewhere": "elsewhere",
    "instance": "instance",
    "expired": "expired",
    "reads": "reads",
    "mirror": "mirror",
}
PREDICT = {
    "public": dict.fromkeys(SECRETS, 200),
    "instance": {
        "none": 401,
        "unknown": 401,
        "mine": 200,
        "elsewhere": 200,
        "instance": 200,
        "expired": 401,
        "reads": 403,
        "mirror": 403,
    },
    "project": {
        "none": 401,
        "unknown": 401,
        "mine": 200,
        "elsewhere": 403,
        "instance": 200,
        "expired": 401,
        "reads": 403,
        "mirror": 403,
    },
}
READ = {mode: {**expected, "reads": 200} for mode, expected in PREDICT.items()}
MIRROR = {
    "none": 401,
    "unknown": 401,
    "mine": 403,
    "elsewhere": 403,
    "instance": 403,
    "expired": 401,
    "reads": 403,
    "mirror": 404,
}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNode]:
    """One deployment for each access mode, all in project `default`, and keys of every kind."""
    keys = (
        key("mine"),
        key("elsewhere", "elsewhere"),
        key("instance", "*"),
        key("expired", expires=time.time() - 1),
        key("reads", scopes=("read",)),
        key("mirror", "*", ("mirror",)),
    )
    with local_node(tmp_path_factory.mktemp("node")) as node:
        one = node.holds(encoding(1), 1)
        node.serves(*(deployment(one, name=mode, access=mode) for mode in PREDICT), keys=keys)
        yield node


def ask(node: LocalNode, path: str, secret: str) -> int:
    """The status of one door to one key; POST where the door takes rows."""
    headers = {"authorization": f"Bearer {SECRETS[secret]}"} if SECRETS[secret] else {}
    if path.endswith("/infer"):
        tensor = {"name": "number", "shape": [1], "datatype": "FP64", "data": [1.0]}
        return node.request("POST", path, json={"inputs": [tensor]}, headers=headers).status_code
    if path.endswith("/predict"):
        return node.request("POST", path, json={"number": 1.0}, headers=headers).status_code
    if path.startswith("/mirror/"):
        return node.request("POST", path, json={"rows": [{"number": 1.0}]}, headers=headers).status_code
    if path.endswith("/form?post"):
        return node.request("POST", path.removesuffix("?post"), data={"feature:number": "1"}, headers=headers).status_code
    return node.get(path, headers=headers).status_code


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("mode", PREDICT)
def test_who_may_do_what(node: LocalNode, mode: str, secret: str) -> None:
    """Predicting, reading and mirroring, at every door that names a deployment."""
    for path in (
        "/deployments/{}/predict",
        "/v2/models/{}/infer",
        "/v2/models/{}/versions/1/infer",
        "/deployments/{}/form",
        "/deployments/{}/form?post",
    ):
        assert ask(node, path.format(mode), secret) == PREDICT[mode][secret], path
    for path in (
        "/deployments/{}",
        "/v2/models/{}",
        "/v2/models/{}/ready",
        "/v2/models/{}/versions/1",
        "/v2/models/{}/versions/1/ready",
    ):
        assert ask(node, path.format(mode), secret) == READ[mode][secret], path
    assert ask(node, f"/mirror/{mode}", secret) == MIRROR[secret]


SCHEMES: dict[str, Callable[[str], dict[str, str]]] = {
    "Bearer": lambda secret: {"authorization": f"Bearer {secret}"},
    "bearer": lambda secret: {"authorization": f"bearer  {secret}"},
    "Basic": lambda secret: {"authorization": "Basic " + b64encode(f"{secret}:".encode()).decode()},
    "X-API-Key": lambda secret: {"x-api-key": secret},
}


@pytest.mark.parametrize("mode", PREDICT)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_who_may_predict_is_the_same_in_every_dialect(node: LocalNode, dialect: str, mode: str) -> None:
    """Whatever header carries the key; a refusal shows nothing of the deployment."""
    request = DIALECTS[dialect].request(mode, encoding(1).manifest.data_schema, [{"number": 1.0}])
    for secret, expected in PREDICT[mode].items():
        for scheme, header in SCHEMES.items():
            headers = {**request.headers, **(header(SECRETS[secret]) if SECRETS[secret] else {})}
            answer = node.request("POST", request.path, content=request.body, headers=headers)
            assert answer.status_code == expected, (scheme, secret, answer.text)
            if expected in (401, 403):
                assert "quarterdeck-model" not in answer.headers
                assert answer.json()["status"] == expected


@pytest.mark.parametrize(
    ("secret", "seen"),
    [
        ("none", ["public"]),
        ("unknown", ["public"]),
        ("expired", ["public"]),
        ("mirror", ["public"]),
        ("mine", ["instance", "project", "public"]),
        ("elsewhere", ["instance", "public"]),
        ("instance", ["instance", "project", "public"]),
        ("reads", ["instance", "project", "public"]),
    ],
)
def test_lists_show_only_what_a_key_opens(node: LocalNode, secret: str, seen: list[str]) -> None:
    """Lists, the OpenAPI document and the page alike."""
    headers = {"authorization": f"Bearer {SECRETS[secret]}"}
    assert [one["name"] for one in node.get("/deployments", headers=headers).json()["deployments"]] == seen
    assert node.get("/v2/models", headers=headers).json()["models"] == seen
    described = node.get("/openapi.json", headers=headers).json()["paths"]
    page = node.get("/docs", headers=headers).text
    for mode in PREDICT:
        assert (f"/deployments/{mode}/predict" in described) is (mode in seen)
        assert (f"<h2>{mode}</h2>" in page) is (mode in seen)


def test_a_key_may_come_in_its_own_header(node: LocalNode) -> None:
    """X-API-Key, where Authorization is taken by something else."""
    for headers, status in (
        ({"x-api-key": "mine"}, 200),
        ({"authorization": "Basic abc", "x-api-key": "mine"}, 200),
        ({"authorization": "Bearer unknown", "x-api-key": "mine"}, 401),
        ({"authorization": "Bearer"}, 401),
    ):
        assert node.request("POST", "/deployments/project/predict", json={"number": 1.0}, headers=headers).status_code == status


def test_a_poisoned_host_or_path_opens_nothing(node: LocalNode) -> None:
    """What is authorised is the path that is routed; neither Host nor a second slash can change it."""
    for path, headers in (
        ("/deployments/project/predict", {"host": "public/deployments/public/predict?"}),
        ("/deployments/project/predict?x=/deployments/public/predict", {}),
        ("/deployments/project/predict;/deployments/public", {}),
    ):
        assert node.request("POST", path, json={"number": 1.0}, headers=headers).status_code in (401, 404)


def test_a_revoked_key_stops_with_the_plan_that_lacks_it(node: LocalNode) -> None:
    """The keyring is the plan's; what is not in it is not known."""
    plan = node.node.plan
    assert plan is not None
    node.apply(*plan.deployments, keys=tuple(one for one in plan.keyring if one.id != "mine"))
    assert ask(node, "/deployments/project/predict", "mine") == 401
    node.apply(*plan.deployments, keys=tuple(plan.keyring))
    assert ask(node, "/deployments/project/predict", "mine") == 200


def test_every_door_states_who_may_enter() -> None:
    """Doors that name a deployment are closed by default, or are pages that ask for the key themselves."""
    for door in DOORS:
        named = "{name}" in door.path
        assert named is (door.access in ("predict", "read", "mirror")) or door.path.endswith("/form"), door.path
    assert {door.path for door in DOORS if door.access == "open"} == {
        "/",
        "/live",
        "/ready",
        "/metrics",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/docs/style.css",
        "/health",
        "/ping",
        "/version",
    }
