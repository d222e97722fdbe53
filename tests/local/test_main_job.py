"""The whole main job, small, through the command line only: from two packages to a rollback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.local.system import LocalSystem, cli
from tests.models import model_package, table
from tests.support import eventually


def yaml(name: str, access: str = "public") -> str:
    """A deployment of version 1 of the model of the same name."""
    return f"""\
apiVersion: quarterdeck.dev/v1alpha1
kind: ModelDeployment
metadata:
  name: {name}
spec:
  model: {{name: {name}, version: 1}}
  access: {access}
"""


class Shell:
    """The command in one folder; `ok` insists on success and gives the JSON answer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def ok(self, *arguments: str, stdin: str = "") -> Any:
        """Run with ``-o json``; exit status 0, and stdout one JSON document."""
        done = cli(self.folder, *arguments, "-o", "json", stdin=stdin)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def model(self, name: str) -> None:
        """Publish a small regression model."""
        model_package("regression", "compiled", name).write(self.folder / name)
        self.ok("package", "push", name)


def rows(count: int) -> list[dict[str, Any]]:
    """Rows for the sample models."""
    names = ["distance", "hour", "holiday", "carrier", "wind"]
    found: list[dict[str, Any]] = json.loads(table()[names].head(count).to_json(orient="records"))
    return found


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """The command beside one running system; each test has a model and a deployment of its own."""
    with LocalSystem(tmp_path_factory.mktemp("shell")) as system:
        yield Shell(system.folder)


def test_from_packages_to_rollback(shell: Shell) -> None:
    """Push, apply, challenger, predict, feedback, performance, swap, rollback: each step shows in the next."""
    model_package("binary", "skops", "late").write(shell.folder / "one")
    model_package("binary", "compiled", "late").write(shell.folder / "two")
    assert [shell.ok("package", "push", folder)["version"] for folder in ("one", "two")] == [1, 2]
    (shell.folder / "late.yaml").write_text(yaml("late"))
    assert shell.ok("apply", "-f", "late.yaml")["changed"]
    assert not shell.ok("apply", "-f", "late.yaml")["changed"]
    assert shell.ok("challenger", "set", "late", "2")["applied"]

    answered = shell.ok("predict", "late", stdin=json.dumps(rows(40)))
    assert (answered["version"], len(answered["predictions"])) == (1, 40)
    stored = eventually(lambda: _paired(shell.ok("predictions", "list", "late", "--limit", "100"), 40))
    labels = [{"row_id": each["row_id"], "value": each["main"]["prediction"]} for each in stored]
    (shell.folder / "labels.jsonl").write_text("\n".join(map(json.dumps, labels)))
    assert shell.ok("feedback", "send", "late", "-f", "labels.jsonl") == {"accepted": 40, "replaced": 0}

    scores = shell.ok("performance", "late")
    assert scores["rows"] == scores["main"]["rows"] == scores["challenger"]["rows"] == 40
    assert scores["main"]["accuracy"] == 1.0

    assert shell.ok("challenger", "swap", "late", "--reason", "a try")["applied"]
    assert shell.ok("predict", "late", stdin=json.dumps(rows(1)))["version"] == 2
    assert shell.ok("rollback", "late")["applied"]
    assert not shell.ok("rollback", "late")["changed"]
    assert shell.ok("predict", "late", stdin=json.dumps(rows(1)))["version"] == 1
    done = [each["verb"] for each in shell.ok("audit", "list") if each["object"].endswith("/late")]
    assert done == ["rollback", "swap", "challenger", "create", "register", "register"]


def test_what_get_prints_is_what_apply_takes(shell: Shell) -> None:
    """A round trip through YAML changes nothing."""
    shell.model("trip")
    shell.ok("apply", "-f", "-", stdin=yaml("trip"))
    printed = cli(shell.folder, "get", "trip", "-o", "yaml").stdout
    assert not shell.ok("apply", "-f", "-", stdin=printed)["changed"]


def test_keys_open_what_is_closed(shell: Shell) -> None:
    """A key printed once on stdout opens the door; without it, and after it was revoked, the exit status is 4."""
    shell.model("closed")
    shell.ok("apply", "-f", "-", stdin=yaml("closed", "instance"))
    question = json.dumps(rows(1))
    assert cli(shell.folder, "predict", "closed", stdin=question).returncode == 4
    created = cli(shell.folder, "keys", "create", "tester")
    (shell.folder / "key").write_text(created.stdout)
    assert "qdk_" not in created.stderr
    eventually(lambda: shell.ok("predict", "closed", "--key-file", "key", stdin=question))
    (listed,) = shell.ok("keys", "list")
    assert "secret" not in listed
    assert shell.ok("keys", "revoke", listed["id"])
    eventually(lambda: cli(shell.folder, "predict", "closed", "--key-file", "key", stdin=question).returncode == 4)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("get", "nothing"), 3, "hint: "),
        (("model", "show", "nothing"), 3, "hint: "),
        (("rollback", "nothing"), 3, "hint: "),
        (("delete", "nothing"), 2, "--yes"),
        (("package", "push", "nowhere"), 3, "nowhere"),
        (("package", "pull", "nothing", "1"), 3, "nothing"),
        (("apply", "-f", "nowhere.yaml"), 2, "nowhere.yaml"),
    ],
)
def test_failures_have_their_exit_code(shell: Shell, arguments: tuple[str, ...], code: int, said: str) -> None:
    """Scripts tell failures apart by number, people by words; stdout stays empty."""
    done = cli(shell.folder, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("error: ")
    assert said in done.stderr


def _paired(found: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The rows, once all of them are stored with both answers."""
    complete = [each for each in found if each["challenger"]]
    return complete if len(complete) == count else []
