"""The registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from quarterdeck import package_files, verify
from quarterdeck.client.calls import Calls, Json, as_list, as_object, part
from quarterdeck.errors import Conflict
from quarterdeck.manifest import Manifest
from quarterdeck.plan import VersionRef

_TRIES = 3


class Models(Calls):
    """`/api/models`."""

    def models(self, labels: Sequence[str] = ()) -> list[Json]:
        """All models, each with its newest and its active version; with `labels` (``key=value`` or ``key``) only those."""
        return self.every("/api/models", label=list(labels) or None)

    def model(self, model: str) -> Json:
        """One model: versions, runs, and which version is active."""
        return as_object(self.call("GET", f"/api/models/{part(model)}"))

    def versions(self, model: str, labels: Sequence[str] = (), deprecated: bool | None = None) -> list[Json]:
        """The versions of a model, newest first; with `labels` (``key=value`` or ``key``) only those that have them."""
        return self.every(f"/api/models/{part(model)}/versions", label=list(labels) or None, deprecated=deprecated)

    def version(self, model: str, version: int) -> Json:
        """One version: its manifest, golden rows among it."""
        return as_object(self.call("GET", _version(model, version)))

    def register(
        self,
        ref: VersionRef,
        run: str = "",
        *,
        metrics: Mapping[str, float] | None = None,
        parameters: Mapping[str, object] | None = None,
    ) -> Json:
        """Make a version known that lies in the system's store. Registering it again changes nothing.

        Args:
            ref: of the version.
            run: name of the training run that made it; the package's own where empty.
            metrics: of that run; figures of the version itself stand in its manifest.
            parameters: of that run.
        """
        told: Json = {"name": run}
        told |= {name: dict(given) for name, given in (("metrics", metrics), ("parameters", parameters)) if given}
        body = {"version": ref.version, "digest": ref.digest, **({"run": told} if run else {})}
        return as_object(self.call("POST", f"/api/models/{part(ref.model)}/versions", body))

    def publish(self, folder: Path | str, version: int | None = None) -> Json:
        """Publish a package folder through the API: files that the store does not have yet, then the manifest.

        For pipelines that cannot reach the store. Interrupted and repeated, it goes on where it was; publishing the same
        package twice changes nothing.

        Args:
            folder: of the package.
            version: the number it must get; the next free one where None.

        Raises:
            PackageRefused: the folder's files are not what its manifest says.
            Conflict: `version` is taken by another package.
        """
        place = Path(folder)
        manifest = package_files.read(place)
        verify.check_files(manifest, place)
        paths = {entry.sha256: place / entry.path for entry in manifest.files}
        for _ in range(_TRIES):
            try:
                return self._publish(manifest, version)
            except Conflict as error:
                if error.code != "files-missing":
                    raise
                # Asked again afterwards: a deletion of another version may have taken files that both had.
                for sha256 in error.extra["missing"]:
                    self.send(f"/api/models/{part(manifest.model)}/blobs/{sha256}", paths[sha256])
        return self._publish(manifest, version)

    def _publish(self, manifest: Manifest, version: int | None) -> Json:
        body = manifest.model_dump(mode="json", by_alias=True, exclude_none=True)
        return as_object(self.call("POST", f"/api/models/{part(manifest.model)}/packages", body, version=version))

    def activate(self, model: str, version: int, why: str = "") -> Json:
        """Make a version the one that batches and evaluations use unless told otherwise; `before` is the one until then."""
        return as_object(
            self.call("PUT", f"/api/models/{part(model)}/active", {"version": version, **({"why": why} if why else {})})
        )

    def runs(self, model: str) -> list[Json]:
        """The training runs of a model, each with its figures and the versions that came of it."""
        return self.every(f"/api/models/{part(model)}/runs")

    def run(self, model: str, run: str) -> Json:
        """One run with its candidates: metrics and hyperparameters side by side."""
        return as_object(self.call("GET", f"/api/models/{part(model)}/runs/{part(run)}"))

    def lineage(self, model: str, version: int) -> Json:
        """Data, recipe, code and environment of a version; its parents up and its children down."""
        return as_object(self.call("GET", f"{_version(model, version)}/lineage"))

    def compare(self, model: str, a: int, b: int) -> Json:
        """What differs from version `a` to version `b`."""
        return as_object(self.call("GET", f"/api/models/{part(model)}/compare", a=a, b=b))

    def mark(
        self,
        model: str,
        version: int | None = None,
        *,
        notes: str | None = None,
        labels: Mapping[str, str | None] | None = None,
        deprecated: bool | None = None,
        why: str = "",
    ) -> Json:
        """Notes and labels of a version or of the model itself, and whether a version is deprecated; None: as it is.

        Args:
            model: its name.
            version: number of the version; None: the model itself.
            notes: the whole text.
            labels: merged with those there are; None as a value takes one away.
            deprecated: whoever deploys such a version again is warned.
            why: reason for the audit log.
        """
        body: Json = {"labels": dict(labels or {}), "why": why}
        body |= {name: value for name, value in (("notes", notes), ("deprecated", deprecated)) if value is not None}
        path = _version(model, version) if version is not None else f"/api/models/{part(model)}"
        return as_object(self.call("PATCH", path, body))

    def uses(self, model: str, version: int) -> list[Json]:
        """What a version is still needed for; only one without uses can be deleted."""
        return as_list(self.call("GET", f"{_version(model, version)}/uses"))

    def delete_version(self, model: str, version: int, why: str = "") -> Json:
        """Delete the files of a version that nothing needs. Its number is never given again.

        Raises:
            Conflict: ``version-in-use``, with the uses in `extra`.
        """
        return as_object(self.call("DELETE", _version(model, version), why=why or None))


def _version(model: str, version: int) -> str:
    return f"/api/models/{part(model)}/versions/{part(version)}"
