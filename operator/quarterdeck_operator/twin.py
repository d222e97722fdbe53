"""An API server in memory, with the semantics that the operator builds on: server-side apply by field manager, compare and swap,
owner references, the status subresource. Tests decide in it; what it says is checked against a real one by the same tests.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from quarterdeck_operator.kube import APPLY, FIELD_MANAGER, OWNED, ApiFailure, Patch
from quarterdeck_operator.world import Object

Path = tuple[str, ...]
"""Where a field is: keys of mappings, and `[key=value]` for members of lists."""
Fault = Callable[[str, str], int]
"""Method and path of a write → HTTP status to refuse it with; 0: none."""
_LIST_KEYS = ("name", "containerPort", "port", "mountPath", "uid", "type")


@dataclass(slots=True)
class _Stored:
    body: Object
    fields: dict[str, set[Path]]
    """Field manager → leaves that it has applied."""


class ClusterTwin:
    """Reads and writes as the API server does; `writes` lists what was written, in order.

    Attributes:
        fault: refuses writes.
        swallow: answers nothing to a write although it was done: how a crash after it looks to whoever comes next.
    """

    def __init__(self) -> None:
        self._objects: dict[str, _Stored] = {}
        self._versions = itertools.count(1)
        self.writes: list[tuple[str, str]] = []
        self.fault: Fault = lambda method, path: 0
        self.swallow: Fault = lambda method, path: 0

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Object | None:
        """One object or list; None where it does not exist."""
        if path in self._objects:
            return self._shown(path)
        if _is_single(path):
            return None
        selector = dict(part.split("=", 1) for part in (query or {}).get("labelSelector", "").split(",") if part)
        items = [self._shown(one) for one in sorted(self._objects) if _in(path, one)]
        return {
            "items": [item for item in items if selector.items() <= (item["metadata"].get("labels") or {}).items()],
            "metadata": {},
        }

    def create(self, path: str, body: Object) -> Object:
        """POST to a collection.

        Raises:
            ApiFailure: it exists already, or `fault` says so.
        """
        metadata = body["metadata"]
        name = metadata.get("name") or f"{metadata['generateName']}{next(self._versions):05x}"
        place = f"{path}/{name}"
        self._enter("POST", place)
        if place in self._objects:
            raise ApiFailure(f"{place} exists already.", http=409)
        fresh = copy.deepcopy(body)
        fresh["metadata"] = {**fresh["metadata"], "name": name, "uid": f"uid-{next(self._versions)}", "generation": 1}
        return self._store("POST", place, _Stored(fresh, {}))

    def replace(self, path: str, body: Object) -> Object:
        """PUT: compare and swap.

        Raises:
            ApiFailure: it has changed meanwhile or is gone, or `fault` says so.
        """
        self._enter("PUT", path)
        stored = self._stored(path)
        if body["metadata"].get("resourceVersion") != stored.body["metadata"]["resourceVersion"]:
            raise ApiFailure(f"{path} has changed meanwhile.", http=409)
        kept = {key: stored.body["metadata"][key] for key in ("uid", "generation")}
        fresh = {**copy.deepcopy(body), "metadata": {**copy.deepcopy(body["metadata"]), **kept}}
        return self._store("PUT", path, _Stored(fresh, stored.fields))

    def patch(self, path: str, body: Object, content_type: Patch, manager: str = FIELD_MANAGER, *, force: bool = True) -> Object:
        """PATCH: server-side apply, or a JSON merge.

        Raises:
            ApiFailure: there is no such object to merge into, it is another than the body's uid says, a field belongs to
                another manager and `force` is not given, or `fault` says so.
        """
        self._enter("PATCH", path)
        place = path.removesuffix("/status")
        if place not in self._objects and (content_type != APPLY or place != path):
            raise ApiFailure(f"{place} does not exist.", http=404)
        if place not in self._objects:
            metadata = {**body["metadata"], "uid": f"uid-{next(self._versions)}", "generation": 1}
            self._objects[place] = _Stored({**body, "metadata": metadata}, {})
        stored = self._stored(place)
        if body["metadata"].get("uid") not in (None, stored.body["metadata"]["uid"]):
            raise ApiFailure(f"{place} is another one now.", http=409)
        fresh = copy.deepcopy(stored.body)
        fields = {one: set(paths) for one, paths in stored.fields.items()}
        if content_type == APPLY:
            _apply(fresh, fields, body, manager, force=force)
        else:
            _merge(fresh, body)
        return self._store("PATCH", place, _Stored(fresh, fields), path)

    def delete(self, path: str, uid: str) -> None:
        """Delete the object with this uid and all that it owns.

        Raises:
            ApiFailure: the name is another object's now, or `fault` says so.
        """
        self._enter("DELETE", path)
        if path not in self._objects:
            return
        if self._objects[path].body["metadata"]["uid"] != uid:
            raise ApiFailure(f"{path} is another one now.", http=409)
        self._collect(path)
        self._leave("DELETE", path)

    def edit(self, path: str, change: Callable[[Object], None]) -> None:
        """Somebody else's hand: change an object in place."""
        stored = self._stored(path)
        fresh = copy.deepcopy(stored.body)
        change(fresh)
        self._keep(path, _Stored(fresh, stored.fields))

    def paths(self) -> list[str]:
        """Paths of all objects."""
        return sorted(self._objects)

    def _enter(self, method: str, path: str) -> None:
        refusal = self.fault(method, path)
        if refusal:
            raise ApiFailure(f"{method} {path} was refused.", http=refusal)

    def _leave(self, method: str, path: str) -> None:
        self.writes.append((method, path))
        if self.swallow(method, path):
            raise ApiFailure(f"{method} {path} was not answered.", http=0)

    def _store(self, method: str, path: str, stored: _Stored, written: str = "") -> Object:
        self._keep(path, stored)
        self._leave(method, written or path)
        return self._shown(path)

    def _keep(self, path: str, stored: _Stored) -> None:
        before, body = self._objects.get(path), stored.body
        if body["kind"] == "Deployment":
            body["spec"].setdefault("replicas", 1)
        if before is not None and before.body.get("spec") != body.get("spec"):
            body["metadata"]["generation"] = int(before.body["metadata"].get("generation", 0)) + 1
        if before is None or before.body != body or "resourceVersion" not in body["metadata"]:
            body["metadata"]["resourceVersion"] = str(next(self._versions))
        self._objects[path] = stored

    def _collect(self, path: str) -> None:
        uid = self._objects.pop(path).body["metadata"]["uid"]
        for other in self.paths():
            owners = self._objects[other].body["metadata"].get("ownerReferences", ()) if other in self._objects else ()
            if any(owner["uid"] == uid for owner in owners):
                self._collect(other)

    def _stored(self, path: str) -> _Stored:
        if path not in self._objects:
            raise ApiFailure(f"{path} does not exist.", http=404)
        return self._objects[path]

    def _shown(self, path: str) -> Object:
        stored = self._objects[path]
        body = copy.deepcopy(stored.body)
        body["metadata"]["managedFields"] = [
            {"manager": manager, "operation": "Apply", "fieldsV1": _nested(paths)} for manager, paths in stored.fields.items()
        ]
        return body


def _is_single(path: str) -> bool:
    """Whether a path names one object: its parts after the version come in pairs."""
    parts = path.strip("/").split("/")
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    return len(rest) % 2 == 0


def _in(collection: str, path: str) -> bool:
    """Whether an object is of a collection: of its namespace, or of the whole cluster."""
    parent = path.rpartition("/")[0]
    if parent == collection:
        return True
    root, _, plural = collection.rpartition("/")
    return "/namespaces/" not in collection and parent.startswith(f"{root}/namespaces/") and parent.endswith(f"/{plural}")


def _apply(live: Object, fields: dict[str, set[Path]], body: Object, manager: str, *, force: bool) -> None:
    wanted = {key: value for key, value in body.items() if key not in ("apiVersion", "kind")}
    identity = {("metadata", key) for key in ("name", "namespace", "uid")}
    leaves = {path: value for path, value in _leaves(wanted).items() if path not in identity}
    others = [one for one in fields if one != manager]
    taken = {path for path in leaves for one in others if path in fields[one] and _at(live, path) != leaves[path]}
    if taken and not force:
        raise ApiFailure("A field belongs to another manager.", http=409)
    # The field by which a list's member is found goes last, or the rest of the member would be lost sight of.
    for path in sorted(fields.get(manager, set()) - set(leaves), key=_is_key):
        # A field lives on while any other manager wants it.
        if not any(path in fields[one] for one in others):
            _remove(live, path)
    for one in others:
        fields[one] -= taken
    for path, value in leaves.items():
        _put(live, path, value)
    _order(live, wanted)
    fields[manager] = set(leaves)


def _is_key(path: Path) -> bool:
    return len(path) > 1 and path[-2].startswith(f"[{path[-1]}=")


def _order(live: Any, wanted: Any) -> None:
    """Members of lists in the order of whoever applied last, others after them."""
    if isinstance(wanted, dict):
        for key, value in wanted.items():
            _order(live[key], value)
    key = _list_key(wanted)
    if key:
        places = [one[key] for one in wanted]
        live.sort(key=lambda one: places.index(one[key]) if one[key] in places else len(places))
        for one, other in zip(live, wanted, strict=False):
            _order(one, other)


def _leaves(value: Any, path: Path = ()) -> dict[Path, Any]:
    if isinstance(value, dict) and value:
        return {one: leaf for key, part in value.items() for one, leaf in _leaves(part, (*path, key)).items()}
    key = _list_key(value)
    if key:
        return {one: leaf for part in value for one, leaf in _leaves(part, (*path, f"[{key}={json.dumps(part[key])}]")).items()}
    return {path: value}


def _list_key(value: Any) -> str | None:
    if not isinstance(value, list) or not value:
        return None
    return next((key for key in _LIST_KEYS if all(isinstance(one, dict) and key in one for one in value)), None)


def _step(here: Any, key: str) -> Any:
    if isinstance(here, list):
        name, _, value = key[1:-1].partition("=")
        return next((one for one in here if isinstance(one, dict) and json.dumps(one.get(name)) == value), None)
    return here.get(key) if isinstance(here, dict) else None


def _at(live: Object, path: Path) -> Any:
    here: Any = live
    for key in path:
        here = _step(here, key)
    return here


def _put(live: Object, path: Path, value: Any) -> None:
    here: Any = live
    for key, following in itertools.pairwise(path):
        found = _step(here, key)
        if found is None:
            found = [] if following.startswith("[") else {}
            if isinstance(here, list):
                here.append(found)
            else:
                here[key] = found
        here = found
    here[path[-1]] = copy.deepcopy(value)


def _remove(live: Object, path: Path) -> None:
    parent = _at(live, path[:-1])
    if isinstance(parent, dict):
        parent.pop(path[-1], None)
    # What is empty now was there for this field only.
    if len(path) > 1 and not parent:
        _remove(live, path[:-1])
    elif path[-1].startswith("[") and isinstance(parent, list):
        parent[:] = [one for one in parent if one]


def _merge(live: Object, body: Object) -> None:
    for key, value in body.items():
        if value is None:
            live.pop(key, None)
        elif isinstance(value, dict) and isinstance(live.get(key), dict):
            _merge(live[key], value)
        else:
            live[key] = copy.deepcopy(value)


def _nested(paths: set[Path]) -> Object:
    found: Object = {}
    for path in paths:
        here = found
        for key in path:
            here = here.setdefault(f"f:{key}", {})
    return found


def owned_paths(twin: ClusterTwin) -> list[str]:
    """Paths of all objects of kinds that deployments own."""
    plurals = {kind.plural for kind in OWNED.values()}
    return [path for path in twin.paths() if path.split("/")[-2] in plurals]
