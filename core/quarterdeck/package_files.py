"""Packages as folders and in stores: write, read, prove, test, push, pull.

A folder holds `manifest.json` and the files at their package paths. A store holds the manifests by model and version and the
files' bytes by their digest, so equal files of different versions are stored once.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from quarterdeck import forms, verify
from quarterdeck.errors import Conflict, InvalidInput, ModelFailed, NotFound, PackageRefused, StorageError
from quarterdeck.manifest import MANIFEST, Manifest, Scenario, digest_of
from quarterdeck.model import Model
from quarterdeck.plan import VersionRef
from quarterdeck.records import Answer
from quarterdeck.storage import Storage
from quarterdeck.storage.keys import blob_key, manifest_key, versions_prefix

_TOMBSTONE = b'{"deleted":true}'


@dataclass(frozen=True)
class ScenarioResult:
    """How one scenario went; `reason` is empty where it passed."""

    name: str
    rows: int
    reason: str = ""


@dataclass(frozen=True)
class PackageTest:
    """What `quarterdeck package test` found: every golden row reproduced, and each scenario's result."""

    model: str
    digest: str
    golden: int
    scenarios: list[ScenarioResult]

    @property
    def passed(self) -> bool:
        """Whether every scenario passed; golden rows that differ are refused before there is a report."""
        return not any(result.reason for result in self.scenarios)


def write(manifest: Manifest, files: Mapping[str, bytes], folder: Path) -> Path:
    """Write a package into a folder of its own, the manifest last.

    Raises:
        Conflict: the folder holds something else.
    """
    # Writing the same package again repairs it; anything else in the folder may be somebody's only copy.
    here = folder / MANIFEST
    if folder.exists() and any(folder.iterdir()) and not (here.is_file() and here.read_bytes() == manifest.canonical()):
        raise Conflict(
            f"{folder.name} is not empty.", kind="folder", name=folder.name, hint="Choose a folder that does not exist yet."
        )
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    here.write_bytes(manifest.canonical())
    return folder


def read(folder: Path, digest: str | None = None) -> Manifest:
    """The manifest of a package folder; its files are not looked at.

    Args:
        folder: of the package.
        digest: that the manifest must have, where the caller knows it.

    Raises:
        NotFound: there is no manifest.
        PackageRefused: ``digest-mismatch`` or ``manifest-invalid``.
    """
    try:
        raw = (folder / MANIFEST).read_bytes()
    except OSError:
        raise NotFound(
            f"{folder.name} holds no {MANIFEST}.",
            kind="package",
            name=folder.name,
            hint="Build one with `quarterdeck package build`.",
        ) from None
    return Manifest.parse(raw, digest)


def prove(folder: Path, *, digest: str | None = None, allow_code: bool, environ: Mapping[str, str] | None = None) -> Model:
    """Everything that stands before a version may serve, in order, and the loaded model.

    Manifest digest, files, environment, trust, load, golden rows: each only after the one before has passed.

    Args:
        folder: of the package.
        digest: that the manifest must have, where the caller knows it.
        allow_code: whether packages that run code when loaded are allowed.
        environ: environment variables; this process's own where None.

    Raises:
        PackageRefused: with the code of the first step that refuses.
        NotFound: there is no manifest.
    """
    manifest = read(folder, digest)
    verify.check_files(manifest, folder)
    verify.check_environment(manifest, environ)
    model = forms.load(manifest, folder, allow_code=allow_code)
    verify.check_golden(manifest, model)
    return model


def test_package(folder: Path, *, allow_code: bool) -> PackageTest:
    """Prove a package and run its scenarios; raises what `prove` raises."""
    manifest = read(folder)
    model = prove(folder, digest=manifest.digest, allow_code=allow_code)
    results = [ScenarioResult(scenario.name, len(scenario.rows), _run(scenario, model)) for scenario in manifest.scenarios]
    return PackageTest(manifest.model, manifest.digest, len(manifest.golden), results)


def push(folder: Path, storage: Storage, version: int | None = None) -> VersionRef:
    """Publish a package: files first, the manifest last, so that no version ever misses a file.

    The number is won by a conditional write of the manifest. Publishing what is the newest version already changes nothing.

    Args:
        folder: of the package.
        storage: to publish to.
        version: the number it must get; the next free one where None.

    Raises:
        Conflict: `version` is taken by another package.
        PackageRefused: the folder's files are not what its manifest says.
        StorageError: the store cannot be used.
    """
    manifest = read(folder)
    # What is pushed is what was proven: a folder that was edited since is refused here, not at the nodes.
    verify.check_files(manifest, folder)
    _send(manifest, folder, storage)
    ref = claim(manifest, storage, version)
    # Whoever deletes another version looks which files are still needed: until now nobody could see that these are.
    _send(manifest, folder, storage)
    return ref


def claim(manifest: Manifest, storage: Storage, version: int | None = None) -> VersionRef:
    """Win a number for a manifest whose files lie in the store, by a conditional write.

    Args:
        manifest: of the package.
        storage: that holds its files.
        version: the number it must get; the next free one where None, or the newest where that is this very package.

    Raises:
        Conflict: `version` is taken by another package.
        StorageError: the store cannot be used.
    """
    # Only the newest is compared: publishing an older package again is a wish to have it on top.
    taken = versions(storage, manifest.model)
    wanted = version if version is not None else (taken[-1] if taken else None)
    if wanted in taken and _holds(storage, manifest, wanted):
        return _ref(manifest, wanted)
    number = version if version is not None else (taken[-1] if taken else 0) + 1
    # Somebody else may win the number between the listing and the write; then the next one is tried, unless the winner
    # published these very bytes: two jobs that push one build get one version.
    while not storage.put(manifest_key(manifest.model, number), manifest.canonical(), if_absent=True):
        if _holds(storage, manifest, number):
            break
        if version is not None:
            raise Conflict(
                f"{manifest.model} has a version {version} already, with another digest.",
                kind="version",
                name=f"{manifest.model} v{version}",
                hint="Leave the number out to get the next free one.",
            )
        number += 1
    return _ref(manifest, number)


def missing(manifest: Manifest, storage: Storage) -> list[str]:
    """Files that the store does not have, by their SHA-256, each once."""
    sizes = {entry.sha256: entry.size for entry in manifest.files}
    return [sha256 for sha256, size in sorted(sizes.items()) if storage.size(blob_key(sha256)) != size]


def copied(storage: Storage, manifest: Manifest, version: int) -> bool:
    """Whether a store has this very version under its number, or what was left of it when it was retired."""
    try:
        return storage.get(manifest_key(manifest.model, version)) in (manifest.canonical(), _TOMBSTONE)
    except StorageError as error:
        if error.code != "not-found":
            raise
        return False


def retire(storage: Storage, manifest: Manifest, version: int) -> None:
    """Put a tombstone in the place of a version's manifest: the number stays taken, and nobody can fetch it any more."""
    storage.put(manifest_key(manifest.model, version), _TOMBSTONE)


def strangers(storage: Storage, known: Collection[tuple[str, int]]) -> Iterator[Manifest]:
    """The manifests of a store but for those that are known by model and version, tombstones and what is no manifest."""
    pattern = re.compile(rf"models/([^/]+)/([1-9][0-9]*)/{re.escape(MANIFEST)}")
    for key in storage.list("models/"):
        match = pattern.fullmatch(key)
        if match and (match.group(1), int(match.group(2))) not in known:
            with suppress(PackageRefused):
                yield Manifest.parse(storage.get(key))


def versions(storage: Storage, model: str) -> list[int]:
    """The version numbers of a model in a store, ascending; empty where there is none."""
    # Other keys under the prefix are not versions, whoever put them there.
    pattern = re.compile(re.escape(versions_prefix(model)) + r"([1-9][0-9]*)/" + re.escape(MANIFEST))
    found = (pattern.fullmatch(key) for key in storage.list(versions_prefix(model)))
    return sorted(int(match.group(1)) for match in found if match)


def pull(storage: Storage, model: str, version: int, folder: Path) -> Manifest:
    """Fetch one version into a folder of its own and verify it.

    Raises:
        NotFound: the store has no such version; ``version-deleted``.
        PackageRefused: what was fetched is not what was published.
        Conflict: the folder holds something else.
        StorageError: the store cannot be used.
    """
    try:
        manifest = _published(storage, model, version)
    except StorageError as error:
        if error.code != "not-found":
            raise
        # Asked for only after the miss: a listing of many versions costs more than the read.
        known = ", ".join(str(number) for number in versions(storage, model)) or "none"
        raise NotFound(
            f"There is no {model} v{version} in the store.",
            kind="version",
            name=f"{model} v{version}",
            hint=f"Its versions are: {known}.",
        ) from None
    if folder.exists() and any(folder.iterdir()):
        raise Conflict(
            f"{folder.name} is not empty.", kind="folder", name=folder.name, hint="Choose a folder that does not exist yet."
        )
    try:
        for entry in manifest.files:
            (folder / entry.path).parent.mkdir(parents=True, exist_ok=True)
            with (folder / entry.path).open("wb") as target:
                target.writelines(storage.stream(blob_key(entry.sha256)))
        verify.check_files(manifest, folder)
    except BaseException:
        # The folder was empty when we came: what a broken pull leaves would be in the way of the next one. The folder
        # itself stays, for somebody's shell may stand in it.
        for left in folder.iterdir() if folder.exists() else ():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        raise
    # The manifest comes last: a folder that has one is complete.
    (folder / MANIFEST).write_bytes(manifest.canonical())
    return manifest


def _send(manifest: Manifest, folder: Path, storage: Storage) -> None:
    for entry in manifest.files:
        # Blobs are named by their content, so one of the right size is the one from an earlier push.
        if storage.size(blob_key(entry.sha256)) != entry.size:
            storage.put(blob_key(entry.sha256), folder / entry.path)


def _published(storage: Storage, model: str, version: int) -> Manifest:
    raw = storage.get(manifest_key(model, version))
    if raw == _TOMBSTONE:
        raise NotFound(
            f"{model} v{version} was deleted; its files are gone.",
            code="version-deleted",
            kind="version",
            name=f"{model} v{version}",
            hint="Fetch another version.",
        )
    return Manifest.parse(raw)


def _holds(storage: Storage, manifest: Manifest, version: int) -> bool:
    return digest_of(storage.get(manifest_key(manifest.model, version))) == manifest.digest


def _ref(manifest: Manifest, version: int) -> VersionRef:
    return VersionRef(model=manifest.model, version=version, digest=manifest.digest, trust=manifest.trust)


def _run(scenario: Scenario, model: Model) -> str:
    """Why a scenario failed; empty where it passed."""
    if scenario.expect and len(scenario.expect) != len(scenario.rows):
        return f"{len(scenario.expect)} expectations for {len(scenario.rows)} rows"
    try:
        answers = model.predict(scenario.rows)
    except (ModelFailed, InvalidInput) as error:
        return error.detail
    for index, (expected, answer) in enumerate(zip(scenario.expect, answers, strict=False)):
        found = verify.differs(Answer(expected.prediction, expected.scores or answer.scores), answer, scenario.tolerance)
        if found:
            return f"row {index}: {found}"
    return ""
