"""Between a revision and a ModelDeployment: what the deployer writes, what a resource says, where the two differ. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from quarterdeck import resources
from quarterdeck.errors import NotFound
from quarterdeck.manifest import Digest, Trust
from quarterdeck.plan import Accelerator, VersionName, VersionRef
from quarterdeck.resource_status import DeploymentStatus
from quarterdeck.resources import API_VERSION, KIND, Spec
from quarterdeck_deployer.infrastructures.kubernetes_fields import Object
from quarterdeck_deployer.revisions import Content, RevisionView

REVISION, WHO, WHY = "quarterdeck.dev/revision", "quarterdeck.dev/who", "quarterdeck.dev/why"
_ALIKE = ("project", "service", "description", "access", "records", "running", "rollback", "progress_seconds")
"""Parts that mean the same in a revision and in a spec."""
_MOST_WORDS = 1_024

Resolve = Callable[[str, int | None, Digest | None, Trust, Accelerator], VersionRef | None]
"""Model, number, digest (one of the two at least), trust, accelerator → the registered version; None: it is not registered."""


def spec_of(resource: Object) -> Spec:
    """What a resource wants. Raises InvalidInput ``spec-unreadable``."""
    return resources.spec_of(resource, "deployer")


def status_of(resource: Object) -> DeploymentStatus:
    """What the operator saw last; empty where it has not looked, or where another version of it wrote something else."""
    try:
        return DeploymentStatus.model_validate(resource.get("status") or {}, by_alias=True, by_name=False)
    except ValidationError:
        return DeploymentStatus()


def revision_of(resource: Object) -> int | None:
    """The revision that the deployer wrote last; None: it has written none, or somebody has made it unreadable."""
    text = (resource["metadata"].get("annotations") or {}).get(REVISION, "")
    return int(text) if text.isascii() and text.isdecimal() else None


def parts(wish: RevisionView) -> dict[str, Any]:
    """The wish as parts of a spec. What is not there is left out: a field that is applied no more goes away."""
    main, challenger = wish.main, wish.challenger
    found: dict[str, Any] = {
        "model": {
            "name": main.model,
            "version": main.version,
            "digest": main.digest,
            "trust": main.trust,
            "accelerator": main.accelerator,
        },
        "project": wish.project,
        "stage": wish.stage,
        "access": wish.access,
        "records": wish.records,
        "running": wish.running,
        # The operator looks again only where the spec has changed: the same wish again is a new attempt for it, too.
        "attempt": wish.chosen,
        "rollback": wish.rollback.model_dump(mode="json", by_alias=True),
        "progressSeconds": wish.progress_seconds,
    }
    if challenger is not None:
        found["challenger"] = {
            "model": challenger.model,
            "version": challenger.version,
            "trust": challenger.trust,
            "accelerator": challenger.accelerator,
        }
    if wish.service is not None:
        found["service"] = wish.service
    if wish.description:
        found["description"] = wish.description
    return found


def pin_of(wish: RevisionView) -> Object:
    """The pin that makes the wish's main answer whatever the file says."""
    reason = wish.why or f"Revision {wish.number} of {wish.who}: {wish.kind}."
    return {"version": wish.main.version, "digest": wish.main.digest, "reason": reason[:_MOST_WORDS]}


def document(wish: RevisionView, spec: Mapping[str, Any]) -> Object:
    """The resource for a server-side apply: these fields and no others are the deployer's."""
    # Whatever people wrote, in one line: `kubectl describe` shows annotations so.
    said = {REVISION: str(wish.number), WHO: wish.who, WHY: " ".join(wish.why.split())[:_MOST_WORDS]}
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": wish.deployment, "annotations": {name: text for name, text in said.items() if text}},
        "spec": dict(spec),
    }


def released(name: str) -> Object:
    """A document without a wish: applied, it takes everything away that is the deployer's alone."""
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}}


def differing(spec: Spec, wish: Content) -> list[str]:
    """Parts in which a spec says something else than the wish, by their names in YAML."""
    found = [] if _is_main(spec, wish.main) else ["model"]
    if not _is_challenger(spec, wish.challenger):
        found.append("challenger")
    names = Spec.model_fields
    found += [names[part].alias or part for part in _ALIKE if getattr(spec, part) != getattr(wish, part)]
    return found


def names_main(spec: Spec, main: VersionRef) -> bool:
    """Whether `spec.model` names this version, whatever a pin says."""
    return _is_main(spec.model_copy(update={"pin": None}), main)


def content_of(resource: Object, stage: str, resolve: Resolve, before: VersionRef | None = None) -> Content:
    """What a resource wants, as a revision holds it.

    Args:
        resource: written by somebody else.
        before: main as the deployer has known it so far.
        stage: where the deployment lives for the deployer.
        resolve: looks versions up in the registry.

    Raises:
        NotFound: ``version-unknown``: the registry does not know a version that it names.
        InvalidInput: the spec cannot be read.
    """
    spec = spec_of(resource)
    model, version, digest = _meant(spec, before)
    main = _looked_up(resolve(model, version, digest, spec.model.trust, spec.model.accelerator), model, version, digest)
    challenger = None
    if spec.challenger is not None:
        its, wanted = spec.challenger, spec.challenger.model or spec.model.name
        found = resolve(wanted, its.version, None, its.trust, its.accelerator)
        challenger = _looked_up(found, wanted, its.version, None)
    alike = {part: getattr(spec, part) for part in _ALIKE}
    return Content(stage=stage, main=main, challenger=challenger, **alike)


def named_versions(spec: Spec) -> list[VersionName]:
    """The versions that a spec names by number."""
    model, version, _ = _named(spec)
    challenger = spec.challenger
    found = [VersionName(model=model, version=version)] if version else []
    return [*found, *([VersionName(model=challenger.model or model, version=challenger.version)] if challenger else [])]


def _named(spec: Spec) -> tuple[str, int | None, Digest | None]:
    """Model, number and digest of what should answer."""
    if spec.pin is not None:
        return spec.model.name, spec.pin.version, spec.pin.digest
    return spec.model.name, spec.model.version, spec.model.digest


def _meant(spec: Spec, before: VersionRef | None) -> tuple[str, int | None, Digest | None]:
    """The same, where somebody has changed the number and left the digest beside it as it was, or the other way round."""
    model, version, digest = _named(spec)
    if before is None or model != before.model or version is None or digest is None:
        return model, version, digest
    if digest == before.digest and version != before.version:
        return model, version, None
    return model, None if version == before.version and digest != before.digest else version, digest


def _is_main(spec: Spec, main: VersionRef) -> bool:
    model, version, digest = _named(spec)
    same = model == main.model and version in (None, main.version) and digest in (None, main.digest)
    # More trust than the package needs changes nothing; less of it is another wish.
    return same and spec.model.accelerator == main.accelerator and (spec.model.trust == "code" or main.trust == "data")


def _is_challenger(spec: Spec, wanted: VersionRef | None) -> bool:
    its = spec.challenger
    if its is None or wanted is None:
        return its is None and wanted is None
    same = (its.model or spec.model.name, its.version, its.accelerator) == (wanted.model, wanted.version, wanted.accelerator)
    return same and (its.trust == "code" or wanted.trust == "data")


def _looked_up(found: VersionRef | None, model: str, version: int | None, digest: Digest | None) -> VersionRef:
    if found is not None:
        return found
    place = f"{model} v{version}" if version else f"{model} with digest {(digest or '')[:19]}…"
    raise NotFound(
        f"The resource names {place}, and the registry has no such version.",
        code="version-unknown",
        kind="version",
        name=place,
        hint=f"Register it: `quarterdeck package push FOLDER`, or see `quarterdeck model show {model}`.",
    )
