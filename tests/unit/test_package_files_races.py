"""Publishing against others, and pulling against a store that breaks off: what is left behind is whole or nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from quarterdeck.build import BuiltPackage
from quarterdeck.errors import Conflict, InvalidInput, NotFound, PackageRefused, StorageError
from quarterdeck.manifest import MANIFEST, GoldenRow, Scenario
from quarterdeck.package_files import pull, push, read, versions, write
from quarterdeck.package_files import test_package as run_scenarios
from quarterdeck.schema import Prediction
from quarterdeck.storage.keys import blob_key, manifest_key
from quarterdeck.storage.memory import MemoryStorage
from tests.models import version_encoding_model


class Overtaken(MemoryStorage):
    """A store whose listings come too late: whoever lists sees no version at all, as if all were published just after."""

    def list(self, prefix: str) -> Iterator[str]:
        """Nothing yet."""
        return iter(())


class Breaking(MemoryStorage):
    """A store whose connection breaks in the middle of the n-th file."""

    def __init__(self, nth: int) -> None:
        super().__init__()
        self.left = nth

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        """Half of the file, then the end of the connection."""
        self.left -= 1
        whole = b"".join(super().stream(key, start))
        if self.left > 0:
            yield whole
            return
        yield whole[: len(whole) // 2]
        raise StorageError("The store did not answer in full.", code="unreachable")


@pytest.fixture(scope="module")
def built() -> list[BuiltPackage]:
    """Two packages of one model that differ in their answers."""
    return [version_encoding_model(number) for number in (1, 2)]


@pytest.fixture
def folders(built: list[BuiltPackage], tmp_path: Path) -> list[Path]:
    """The packages as folders."""
    return [package.write(tmp_path / f"package-{place}") for place, package in enumerate(built)]


def test_two_jobs_that_push_one_build_get_one_version(folders: list[Path]) -> None:
    """The loser of the race finds its own bytes under the number, and that is what it wanted."""
    storage = Overtaken()
    first, second = push(folders[0], storage), push(folders[0], storage)
    assert first == second
    assert storage.size(manifest_key("versions", 2)) is None


def test_a_wanted_number_that_the_same_build_won_is_no_conflict(folders: list[Path]) -> None:
    """Asked for by number and overtaken by the same bytes: the number is had; other bytes are a conflict."""
    storage = Overtaken()
    first = push(folders[0], storage, version=7)
    assert push(folders[0], storage, version=7) == first
    with pytest.raises(Conflict) as caught:
        push(folders[1], storage, version=7)
    assert (caught.value.name, bool(caught.value.hint)) == ("versions v7", True)


def test_an_overtaken_push_takes_the_next_number(folders: list[Path]) -> None:
    """Numbers that others won meanwhile are passed over one by one."""
    storage = Overtaken()
    assert [push(folder, storage).version for folder in folders] == [1, 2]


def test_a_gap_in_the_numbers_is_not_filled(folders: list[Path]) -> None:
    """The next number is above the highest: a number that was left out is nobody's by accident."""
    storage = MemoryStorage()
    push(folders[0], storage, version=5)
    assert push(folders[1], storage).version == 6
    assert versions(storage, "versions") == [5, 6]


@pytest.mark.parametrize(
    "key",
    ["models/versions/01/manifest.json", "models/versions/x/manifest.json", "models/versions/3/manifest.json.bak",
     "models/versions/3/other.json", "models/versions-two/3/manifest.json", "models/versions/0/manifest.json"],
)  # fmt: skip
def test_only_manifests_under_whole_numbers_are_versions(key: str) -> None:
    """Whatever else somebody put beside them."""
    storage = MemoryStorage()
    storage.put(key, b"{}")
    storage.put("models/versions/10/manifest.json", b"{}")
    storage.put("models/versions/9/manifest.json", b"{}")
    assert versions(storage, "versions") == [9, 10]


@pytest.mark.parametrize("version", [0, -1])
def test_versions_are_counted_from_one(version: int, folders: list[Path]) -> None:
    """A number that no manifest can have is refused, and nothing is published under it."""
    storage = MemoryStorage()
    with pytest.raises(InvalidInput) as caught:
        push(folders[0], storage, version=version)
    assert caught.value.hint
    assert versions(storage, "versions") == []


def test_a_blob_that_was_cut_in_the_store_is_put_again(built: list[BuiltPackage], folders: list[Path]) -> None:
    """Only a blob of the right size is taken for the one from an earlier push."""
    storage = MemoryStorage()
    entry = built[0].manifest.files[0]
    storage.put(blob_key(entry.sha256), b"")
    push(folders[0], storage)
    assert storage.size(blob_key(entry.sha256)) == entry.size


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("existed", [False, True])
def test_a_broken_pull_leaves_nothing_in_the_way(nth: int, existed: bool, folders: list[Path], tmp_path: Path) -> None:
    """Whichever file it breaks at, the next pull into the same folder succeeds; a folder that was there stays."""
    storage, target = Breaking(nth), tmp_path / "pulled" / "deep"
    ref = push(folders[0], storage)
    if existed:
        target.mkdir(parents=True)
    inode = target.stat().st_ino if existed else None
    with pytest.raises(StorageError) as caught:
        pull(storage, "versions", ref.version, target)
    assert caught.value.code == "unreachable"
    assert not target.exists() or not any(target.iterdir())
    storage.left = 1000
    manifest = pull(storage, "versions", ref.version, target)
    assert manifest.digest == ref.digest == read(target).digest
    assert inode in (None, target.stat().st_ino)


def test_pulling_over_something_else_touches_nothing(folders: list[Path], tmp_path: Path) -> None:
    """A folder with content is somebody's: refused before the first byte, and left as it was."""
    storage = MemoryStorage()
    ref = push(folders[0], storage)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes").write_text("mine")
    with pytest.raises(Conflict):
        pull(storage, "versions", ref.version, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes"]


def test_pulling_from_an_empty_store_says_that_there_is_nothing(tmp_path: Path) -> None:
    """No versions at all: the hint says so instead of an empty list."""
    with pytest.raises(NotFound, match="none"):
        pull(MemoryStorage(), "versions", 1, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_folder_is_read_only_with_the_digest_that_was_asked_for(built: list[BuiltPackage], folders: list[Path]) -> None:
    """The digest comes before the content, and the refusal names the manifest."""
    assert read(folders[0], built[0].manifest.digest) == built[0].manifest
    with pytest.raises(PackageRefused) as caught:
        read(folders[1], built[0].manifest.digest)
    assert (caught.value.code, caught.value.extra) == ("digest-mismatch", {"place": MANIFEST})


def test_writing_again_repairs_a_damaged_folder(built: list[BuiltPackage], folders: list[Path]) -> None:
    """Over its own manifest a package may be written again; without the manifest the folder is somebody else's."""
    path = built[0].manifest.files[0].path
    (folders[0] / path).write_bytes(b"damaged")
    write(built[0].manifest, built[0].files, folders[0])
    assert (folders[0] / path).read_bytes() == built[0].files[path]
    (folders[0] / MANIFEST).unlink()
    with pytest.raises(Conflict):
        write(built[0].manifest, built[0].files, folders[0])


@pytest.mark.parametrize(
    ("scenario", "reason"),
    [
        (Scenario(name="s", rows=[{"number": 1.0}], expect=[Prediction(prediction=1.0)]), ""),
        (Scenario(name="s", rows=[{"number": None}]), "Feature number is absent or not a number."),
        (Scenario(name="s", rows=[]), ""),
        (Scenario(name="s", rows=[{"number": 1.0}], expect=[Prediction(prediction=1.2)], tolerance=0.25), ""),
        (Scenario(name="s", rows=[{"number": 1.0}], expect=[Prediction(prediction=1.2)]), "row 0: another number than expected"),
        (Scenario(name="s", rows=[{"number": 1.0}], expect=[Prediction(prediction="yes")]), "row 0: another label than expected"),
        (Scenario(name="s", rows=[{"number": 1.0}], expect=[Prediction(prediction=1.0)] * 2), "2 expectations for 1 rows"),
        (Scenario(name="s", rows=[{"other": 1.0}]), "Feature number is absent or not a number."),
        (Scenario(name="s", rows=[{"number": "one"}]), "Feature number is absent or not a number."),
    ],
)
def test_scenarios_say_why_they_failed(scenario: Scenario, reason: str, built: list[BuiltPackage], tmp_path: Path) -> None:
    """A scenario without expectations must merely be answered; each failure has its words, and no row is repeated."""
    manifest = built[0].manifest.model_copy(update={"scenarios": [scenario]})
    report = run_scenarios(write(manifest, built[0].files, tmp_path / "with-scenario"), allow_code=False)
    assert [result.reason for result in report.scenarios] == [reason]
    assert (report.passed, report.scenarios[0].rows) == (reason == "", len(scenario.rows))
    assert (report.model, report.golden) == ("versions", len(manifest.golden))


def test_a_package_whose_golden_rows_differ_has_no_report(built: list[BuiltPackage], tmp_path: Path) -> None:
    """There is nothing to test about a model that is not the one that was proven."""
    wrong = GoldenRow(row={"number": 1.0}, expected=Prediction(prediction=9.0))
    manifest = built[0].manifest.model_copy(update={"golden": [wrong]})
    folder = write(manifest, built[0].files, tmp_path / "wrong")
    with pytest.raises(PackageRefused) as caught:
        run_scenarios(folder, allow_code=False)
    assert caught.value.code == "golden-mismatch"
    shutil.rmtree(folder)
    with pytest.raises(NotFound) as absent:
        run_scenarios(folder, allow_code=False)
    assert "package build" in absent.value.hint
