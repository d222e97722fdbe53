"""The YAML of what runs: a ModelDeployment for each deployment, as `kubectl apply` and `quarterdeck apply` take it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quarterdeck.plan import VersionRef
from quarterdeck.resources import ModelDeployment, Spec
from quarterdeck_deployer.revisions import RevisionView

_ALIKE = ("project", "stage", "service", "description", "access", "records", "running", "rollback", "progress_seconds")
_CLUSTERS = ("nodes", "keyring", "store")


def document(wish: RevisionView, placed: Spec | None = None) -> ModelDeployment:
    """The resource that makes a deployment what its newest revision says.

    Args:
        wish: the revision; what answers by a pin is exported as main, for that is what runs.
        placed: in a cluster the resource's spec, whose nodes, keyring and store are nobody's business here.
    """
    # Digests too: the file then means the same bytes wherever it is taken.
    main = {"name": wish.main.model, "digest": wish.main.digest, **_version(wish.main)}
    challenger = {"model": wish.challenger.model, **_version(wish.challenger)} if wish.challenger else None
    spec: dict[str, Any] = {part: getattr(wish, part) for part in _ALIKE}
    spec |= {part: getattr(placed, part) for part in _CLUSTERS} if placed is not None else {}
    return ModelDeployment.model_validate(
        {"metadata": {"name": wish.deployment}, "spec": {**spec, "model": main, "challenger": challenger}}
    )


def exported(wishes: Sequence[RevisionView], placed: Mapping[str, Spec]) -> str:
    """One YAML document for each deployment, in the given order; empty text where there is none.

    Args:
        wishes: newest revisions.
        placed: by name, the specs of those that are in a cluster.
    """
    return "---\n".join(document(wish, placed.get(wish.deployment)).to_yaml() for wish in wishes)


def _version(ref: VersionRef) -> dict[str, Any]:
    return {"version": ref.version, "trust": ref.trust, "accelerator": ref.accelerator}
