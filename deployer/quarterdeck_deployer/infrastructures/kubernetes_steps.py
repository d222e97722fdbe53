"""What is to be done about one resource: nothing, write, adopt, delete, let go, or wait for a person. Pure.

    no annotation, or a higher one    somebody else's, or of a database that was newer: adopt, never write over it
    annotation = newest revision      written; where it differs by now, somebody has changed it: adopt
    annotation < newest revision      a wish that has not been written yet: write

What a file or a program owns is not fought for: main is changed by a pin there, and whatever else is wished otherwise is
adopted back, with words that say whose it is. What a person has changed by hand once is adopted, and taken over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quarterdeck.errors import InvalidInput
from quarterdeck.resources import Spec
from quarterdeck_deployer.infrastructures.kubernetes_fields import Object, owners, standing, standing_owner
from quarterdeck_deployer.infrastructures.kubernetes_resource import (
    differing,
    document,
    names_main,
    parts,
    pin_of,
    revision_of,
    spec_of,
)
from quarterdeck_deployer.revisions import RevisionView


@dataclass(frozen=True, slots=True)
class Nothing:
    """Everything is as it should be."""


@dataclass(frozen=True, slots=True)
class Write:
    """Apply `document`.

    Attributes:
        drop: parts that go first: others have said them by hand, and leaving them out of ours would not end them.
        force: take over what others have said by hand; only while the resource is the one that was looked at.
    """

    document: Object
    drop: tuple[str, ...] = ()
    force: bool = False


@dataclass(frozen=True, slots=True)
class Drop:
    """Take parts away that have no effect any more."""

    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Adopt:
    """Make what the resource says the newest revision, with a number above `above`."""

    who: str
    why: str
    above: int


@dataclass(frozen=True, slots=True)
class Delete:
    """It was deleted here, and nobody else owns it."""


@dataclass(frozen=True, slots=True)
class Release:
    """It was deleted here, and a file that others own wants it: take our fields away, and let it be adopted anew."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be done until somebody does something."""

    sentence: str


Deed = Nothing | Write | Drop | Adopt | Delete | Release | Wait


def towards(wish: RevisionView, resource: Object | None, extra: Mapping[str, Any]) -> Deed:
    """What is to be done about a deployment that exists.

    Args:
        wish: its newest revision.
        resource: as it is in the cluster; None: there is none.
        extra: parts of the spec that the infrastructure adds: its keyring, its store.

    Raises:
        InvalidInput: the resource cannot be read.
    """
    if resource is None:
        return _missing(wish, extra)
    if "deletionTimestamp" in resource["metadata"]:
        return Wait("somebody is deleting its resource in the cluster")
    written, spec = revision_of(resource), spec_of(resource)
    different = differing(spec, wish)
    if written is not None and written > wish.number:
        why = f"The cluster has revision {written}, this database {wish.number}: it was restored from an older copy."
        return Adopt(_author(resource, different), why, written)
    if written == wish.number:
        return _changed(wish, resource, different) if different else _tidied(wish, resource, spec)
    if written is None and different:
        why = "The resource was in the cluster before the deployer wrote it."
        return Adopt(_author(resource, different), why, wish.number)
    return _write(wish, resource, spec, extra)


def without(resource: Object, deleted: int) -> Deed:
    """What is to be done about a resource whose deployment was deleted here, or was never known.

    Args:
        resource: as it is in the cluster.
        deleted: number of the revision that deleted it; 0: there never was a deployment of that name.
    """
    written = revision_of(resource)
    if "deletionTimestamp" in resource["metadata"]:
        return Nothing()
    # Without our annotation somebody has made it since; above our number it outlived a database that was newer.
    if written is None or written > deleted:
        why = "Made in the cluster." if written is None else f"The cluster has revision {written}, this database {deleted}."
        return Adopt(_author(resource, ["model"]), why, max(written or 0, deleted))
    return Release() if standing_owner(owners(resource), "model") else Delete()


def _missing(wish: RevisionView, extra: Mapping[str, Any]) -> Deed:
    if wish.kind == "adopt":
        return Wait(
            f"its resource was deleted in the cluster by somebody else: `quarterdeck delete {wish.deployment}` forgets it here,"
            f" any change of it here makes it anew"
        )
    return Write(document(wish, {**parts(wish), **extra}))


def _changed(wish: RevisionView, resource: Object, different: Sequence[str]) -> Deed:
    owned = owners(resource)
    refused = [(part, owner) for part in different if (owner := standing_owner(owned, part))]
    if refused and wish.kind != "adopt":
        told = ", ".join(f"spec.{part} is {owner}'s" for part, owner in refused)
        why = f"Stays as it is in the cluster: {told}. Change it in its file."
    else:
        why = f"Changed in the cluster: {', '.join(f'spec.{part}' for part in different)}."
    return Adopt(_author(resource, different), why, wish.number)


def _tidied(wish: RevisionView, resource: Object, spec: Spec) -> Deed:
    # Main has come to be what the pin says: the file may lead again.
    if spec.pin is not None and names_main(spec, wish.main) and not standing_owner(owners(resource), "pin"):
        return Drop(("pin",))
    return Nothing()


def _write(wish: RevisionView, resource: Object, spec: Spec, extra: Mapping[str, Any]) -> Deed:
    owned, wanted = owners(resource), {**parts(wish), **extra}
    foreign = {part for part in owned if standing_owner(owned, part)}
    ours = {part: value for part, value in wanted.items() if part not in foreign}
    if "pin" not in foreign and _needs_pin(wish, spec, owned, filed="model" in foreign):
        ours["pin"] = pin_of(wish)
    byhand = {part for part, managers in owned.items() if part not in foreign and any(not standing(one) for one in managers)}
    # `pin` is not dropped here: see above.
    drop = [part for part in ("challenger", "service", "description") if part in byhand and part not in ours]
    return Write(document(wish, ours), drop=tuple(drop), force=bool(byhand & ours.keys()))


def _needs_pin(wish: RevisionView, spec: Spec, owned: Mapping[str, tuple[str, ...]], *, filed: bool) -> bool:
    if filed:
        # Of another model no pin can speak; what cannot be written is adopted back.
        return spec.model.name == wish.main.model and not names_main(spec, wish.main)
    # Somebody's pin that says otherwise is turned first and taken away later: in between nothing else may answer.
    pin = spec.pin
    return (
        pin is not None
        and "pin" in owned
        and (pin.version, pin.digest or wish.main.digest) != (wish.main.version, wish.main.digest)
    )


def _author(resource: Object, different: Sequence[str]) -> str:
    """Who said it: the manager that wrote one of these parts last, in the API server's own words."""
    owned = owners(resource)
    said = [manager for part in (*different, "pin", "model") for manager in owned.get(part, ())]
    # A part that was taken away has no owner: then whoever wrote anything last.
    return next(iter(said), "") or next((one for managers in owned.values() for one in managers), "somebody in the cluster")


def readable(wish: RevisionView, resource: Object | None, extra: Mapping[str, Any]) -> Deed:
    """As `towards`; a resource that cannot be read is waited for."""
    try:
        return towards(wish, resource, extra)
    except InvalidInput as refusal:
        return Wait(str(refusal))
