"""Who said what in a resource, by its `managedFields`. Pure.

Each part of a spec (`model`, `challenger`, `access`, …) is one thing here: whoever owns any field of it has a say in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

Object = dict[str, Any]
"""An object of the API server, as JSON data."""

MANAGER = "quarterdeck-deployer"
"""The deployer's own field manager."""
_NOTE = "kubectl.kubernetes.io/last-applied-configuration"
_APPLY_AGAIN = ("kubectl-client-side-apply", "kubectl-last-applied")


def standing(manager: str) -> bool:
    """Whether a manager has a file or a program behind it that will say the same again.

    What a person did by hand once (`kubectl edit`, `patch`, `create`) is taken over and may be changed here; what a file
    says would come back, so whoever changes it here fights with that file.
    """
    if manager in (MANAGER, "quarterdeck-operator", "before-first-apply"):
        return False
    return not manager.startswith("kubectl-") or manager in _APPLY_AGAIN


def owners(resource: Object) -> Mapping[str, tuple[str, ...]]:
    """Part of the spec → managers other than the deployer that own a field of it; whoever wrote last comes first."""
    found: dict[str, list[str]] = {}
    filed = _filed(resource)
    entries = resource["metadata"].get("managedFields") or ()
    for entry in sorted(entries, key=lambda one: str(one.get("time", "")), reverse=True):
        manager = str(entry.get("manager", ""))
        # The status is the operator's, and says nothing about who wants what.
        if manager == MANAGER or entry.get("subresource"):
            continue
        for field in entry.get("fieldsV1", {}).get("f:spec", {}):
            part = field.removeprefix("f:")
            # Whoever sends a whole object owns the defaults too that the API server fills in; their file says nothing of those.
            defaulted = entry.get("operation") == "Update" and filed is not None and part not in filed
            found.setdefault(part, []).append("kubectl-create" if defaulted and standing(manager) else manager)
    return {part: tuple(dict.fromkeys(managers)) for part, managers in found.items() if part != "."}


def standing_owner(owned: Mapping[str, tuple[str, ...]], part: str) -> str:
    """The manager whose file says this part; empty: nobody's."""
    return next((manager for manager in owned.get(part, ()) if standing(manager)), "")


def _filed(resource: Object) -> Mapping[str, Any] | None:
    """The spec of the file that was applied last by a client that notes it down; None: there is no such note."""
    try:
        note = json.loads((resource["metadata"].get("annotations") or {})[_NOTE])
        spec: Mapping[str, Any] = note["spec"]
        return spec if isinstance(spec, dict) else None
    except (KeyError, ValueError, TypeError):
        return None
