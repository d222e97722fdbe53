"""From what a spec names to versions with digests: the operator has no store, so nodes are asked what a number stands for. Pure.

The first digest that a node reports for a number is kept for good: a package that is exchanged under its number is never served.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from quarterdeck.plan import NodeReport, Resolved, VersionName, VersionRef
from quarterdeck.resources import Spec
from quarterdeck.rollout import Condition, ConditionType, Status
from quarterdeck.rollout_record import reason_of

MOST_PINS = 500
"""Pins of one deployment; a ConfigMap has room for ten times as many."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a spec names, as far as it is known.

    Attributes:
        main, pin, challenger: None where the spec names none, or where its digest is not known yet; main also while the pin's
            is not.
        resolve: versions that nodes are to look up.
        pins: `model/version` → digest, the new ones among them.
        condition: `ArtifactVerified`: whether the wanted version's digest is known and not in dispute.
        challenger_condition: `ChallengerReady`, while the digest of a challenger is not known; else None.
    """

    main: VersionRef | None
    pin: VersionRef | None
    challenger: VersionRef | None
    resolve: Sequence[VersionName]
    pins: Mapping[str, str]
    condition: Condition
    challenger_condition: Condition | None

    @property
    def known(self) -> bool:
        """Whether the version that should answer is known by its digest."""
        return self.condition.status == "True"


def resolve(spec: Spec, pins: Mapping[str, str], reports: Sequence[NodeReport], generation: int) -> Resolution:
    """Look up what the spec names among its own digests, the pins and what nodes have found for this generation."""
    answers = _answers(reports, generation)
    names = _named(spec, pins)
    fresh = {_text(name): found.digest for name, found in answers.items() if name in names and found.digest}
    # What was pinned first stays; the oldest pins go where there are too many.
    merged = dict(list({**pins, **{text: digest for text, digest in fresh.items() if text not in pins}}.items())[-MOST_PINS:])
    pin, challenger = _pin(spec, merged), _challenger(spec, merged)
    # While a pin is looked up, main must not stand in for it.
    main = _main(spec, merged) if pin or spec.pin is None else None
    unknown = [name for name in names if _text(name) not in merged]
    told = _condition(spec, merged, pin or main, answers)
    challenger_told = _challenger_condition(spec, answers) if challenger is None else None
    return Resolution(main, pin, challenger, unknown, merged, told, challenger_told)


def wish(spec: Spec) -> str:
    """What the spec chooses, as text: while it stays the same, nobody has chosen anew."""
    pin = spec.pin.model_dump(mode="json", exclude={"reason"}) if spec.pin else None
    # Without the attempt where there is none: records know the text from before there were attempts.
    again = [spec.attempt] if spec.attempt else []
    return json.dumps([spec.model.model_dump(mode="json"), pin, *again], sort_keys=True)


def _named(spec: Spec, pins: Mapping[str, str]) -> list[VersionName]:
    """Versions that the spec names by number alone, each once."""
    found: list[VersionName] = []
    if spec.model.digest is None and spec.model.version is not None:
        found.append(VersionName(model=spec.model.name, version=spec.model.version))
    if spec.pin and spec.pin.digest is None:
        found.append(VersionName(model=spec.model.name, version=spec.pin.version))
    if spec.challenger:
        found.append(VersionName(model=spec.challenger.model or spec.model.name, version=spec.challenger.version))
    return list(dict.fromkeys(found))


def _main(spec: Spec, pins: Mapping[str, str]) -> VersionRef | None:
    model = spec.model
    digest, version = model.digest, model.version
    if version is None:
        # A digest alone: its number is known if it was ever asked for by number.
        version = next((_number(text) for text, pinned in pins.items() if pinned == digest and _model(text) == model.name), None)
    elif digest is None:
        digest = pins.get(f"{model.name}/{version}")
    return _ref(spec, version, digest)


def _pin(spec: Spec, pins: Mapping[str, str]) -> VersionRef | None:
    if spec.pin is None:
        return None
    return _ref(spec, spec.pin.version, spec.pin.digest or pins.get(f"{spec.model.name}/{spec.pin.version}"))


def _ref(spec: Spec, version: int | None, digest: str | None) -> VersionRef | None:
    if version is None or digest is None:
        return None
    model = spec.model
    return VersionRef(model=model.name, version=version, digest=digest, trust=model.trust, accelerator=model.accelerator)


def _challenger(spec: Spec, pins: Mapping[str, str]) -> VersionRef | None:
    wanted = spec.challenger
    if wanted is None:
        return None
    model = wanted.model or spec.model.name
    digest = pins.get(f"{model}/{wanted.version}")
    if digest is None:
        return None
    return VersionRef(model=model, version=wanted.version, digest=digest, trust=wanted.trust, accelerator=wanted.accelerator)


def _answers(reports: Sequence[NodeReport], generation: int) -> dict[VersionName, Resolved]:
    """What nodes found, by name of the version; the first node (by name) that found a digest counts, then the first refusal."""
    found: dict[VersionName, Resolved] = {}
    for report in sorted(reports, key=lambda report: report.node):
        for deployment in report.deployments:
            # An older wish's refusal must not end a new attempt.
            for one in deployment.resolved if deployment.generation == generation else ():
                name = VersionName(model=one.model, version=one.version)
                if name not in found or (found[name].digest is None and one.digest):
                    found[name] = one
    return found


def _condition(
    spec: Spec, pins: Mapping[str, str], wanted: VersionRef | None, answers: Mapping[VersionName, Resolved]
) -> Condition:
    number = spec.pin.version if spec.pin else spec.model.version
    if wanted is None and number is None:
        message = f"No node knows which version of {spec.model.name} has the digest that the spec names; name its number too."
        return _told("False", "VersionMissing", message)
    name = VersionName(model=spec.model.name, version=wanted.version if wanted else number or 1)
    if wanted is None:
        return _unknown("ArtifactVerified", name, answers)
    pinned = pins.get(_text(name))
    if pinned is not None and pinned != wanted.digest:
        message = f"The spec names another digest of {wanted} than a node found when it was first used. The spec's counts."
        return _told("True", "DigestDiffers", message)
    return _told("True", "Pinned", f"{wanted} is {wanted.digest[:19]}… and cannot be exchanged.")


def _challenger_condition(spec: Spec, answers: Mapping[VersionName, Resolved]) -> Condition | None:
    wanted = spec.challenger
    if wanted is None:
        return None
    return _unknown("ChallengerReady", VersionName(model=wanted.model or spec.model.name, version=wanted.version), answers)


def _unknown(kind: ConditionType, name: VersionName, answers: Mapping[VersionName, Resolved]) -> Condition:
    """Why the digest of a version is not known."""
    answer = answers.get(name)
    if answer is None:
        message = f"Nodes are looking up the digest of {name.model} v{name.version}."
        return Condition(type=kind, status="Unknown", reason="Resolving", message=message)
    message = f"{name.model} v{name.version} was not found: {answer.reason}"
    return Condition(type=kind, status="False", reason=reason_of(answer.code, "NotFound"), message=message)


def _told(status: Status, reason: str, message: str) -> Condition:
    return Condition(type="ArtifactVerified", status=status, reason=reason, message=message)


def _text(name: VersionName) -> str:
    return f"{name.model}/{name.version}"


def _model(text: str) -> str:
    return text.rpartition("/")[0]


def _number(text: str) -> int:
    return int(text.rpartition("/")[2])
