"""`quarterdeck model` and `package publish`: what people are told of runs, lineage, differences, labels and deletions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from quarterdeck.manifest import FileEntry
from quarterdeck.package_files import write
from tests.deployer_world import manifest
from tests.unit.cli_shell import Desk, desk, ok, run


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A running system with three versions of `flights`."""
    with desk(tmp_path_factory.mktemp("registry")) as found:
        yield found


def test_runs_and_their_candidates_side_by_side(here: Desk) -> None:
    """The list names versions and figures; one run shows what its candidates do not have alike."""
    assert [row["versions"] for row in ok("model", "runs", "flights")] == [[1], [2], [3]]
    said = run("model", "runs", "flights", "run 2")
    assert said.rows[1][:3] == ["v2", "no", "0.1"]
    assert run("model", "runs", "flights", "run 9").code == 3


def test_lineage_names_parents_that_are_not_here(here: Desk) -> None:
    """Digest and words for where it is not known."""
    parent = "sha256:" + "c" * 64
    here.world.register(4, parent=parent, recipe="train.py", commit="c0ffee")
    said = run("model", "lineage", "flights", "4").out
    assert "recipe       train.py" in said
    assert f"parent       {parent}, not registered here" in said
    here.world.register(5, parent=ok("model", "version", "flights", "4")["digest"])
    assert "child        flights v5" in run("model", "lineage", "flights", "4").out


def test_compare_shows_sections_and_how_much_is_alike(here: Desk) -> None:
    """Sections with differences have a table, the others say so; JSON is the API's."""
    said = run("model", "compare", "flights", "1", "2").out
    assert "hyperparameters: no difference" in said
    assert "model.txt" in said
    assert "alike: 12 of package" in said
    assert ok("model", "compare", "flights", "1", "2")["files"][0]["change"] == 1


def test_labels_notes_and_deprecation_are_written_and_shown(here: Desk) -> None:
    """Set, taken away, filtered by; the wide list and the version show them; deploying it again warns."""
    assert run("model", "label", "flights", "2", "team=ops", "old=x").out == "version/flights-2 labelled\nold=x,team=ops\n"
    assert run("model", "label", "flights", "2", "old-").out.endswith("team=ops\n")
    assert run("model", "show", "flights", "--label", "team=ops", "-o", "name").out == "v2\n"
    assert run("model", "label", "flights", "area=air").out == "model/flights labelled\narea=air\n"
    assert run("model", "list", "--label", "area").rows[1][0] == "flights"
    assert run("model", "note", "flights", "2", "--text", "too flat").code == 0
    assert run("model", "deprecate", "flights", "2", "--reason", "too flat at the edges").code == 0
    said = run("model", "version", "flights", "2").out
    assert "too flat at the edges" in said
    assert "team=ops" in said
    assert "needed for  nothing" in said
    assert "warning: flights v2 is deprecated" in run("apply", "-f", here.wish("warned", 2), "--timeout", "0").err
    assert run("model", "undeprecate", "flights", "2").code == 0


@pytest.mark.parametrize(
    "words",
    [
        ("label", "flights", "2"),
        ("label", "flights", "nonsense"),
        ("note", "flights"),
        ("note", "flights", "--text", "a", "--file", "b"),
    ],
    ids=" ".join,
)
def test_half_a_mark_is_refused_before_anything_is_sent(here: Desk, words: tuple[str, ...]) -> None:
    """With the way to say it whole."""
    said = run("model", *words)
    assert said.code in (1, 2)
    assert said.err


def test_deletion_asks_and_tells_what_is_in_the_way(here: Desk) -> None:
    """Without --yes nothing happens; the active version is kept; another one goes."""
    assert run("model", "delete", "flights", "3").code != 0
    said = run("model", "delete", "flights", "1", "--yes")
    assert (said.code, "is the active version" in said.err) == (5, True)
    assert run("model", "delete", "flights", "3", "--yes", "--reason", "never used").out.startswith("version/flights-3 deleted\n")
    assert "state       deleted" in run("model", "version", "flights", "3").out


def test_publish_goes_through_the_api(here: Desk, tmp_path: Path) -> None:
    """A folder, its number, its digest; again the same."""
    entry = FileEntry(path="model.txt", size=5, sha256=hashlib.sha256(b"model").hexdigest())
    folder = write(manifest("trains", salt=1, files=[entry]), {"model.txt": b"model"}, tmp_path / "trains")
    for _ in range(2):
        said = run("package", "publish", str(folder))
        assert (said.code, said.out.splitlines()[0]) == (0, "version/trains-1 published")
