"""Whether a live object says everything that was wanted of it, in whatever form the API server has put it."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

_SUFFIXES = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}
_KEYS = ("name", "containerPort", "port", "mountPath", "uid", "type")
"""Fields by which the API server tells members of a list apart, in the order in which they are tried."""


def covers(live: Any, wanted: Any) -> bool:
    """Whether `live` has each field of `wanted` with the same value; more fields, and more named list members, are fine.

    Quantities are the same in any spelling (`0.5` and `500m`), and an empty value is the same as none, for the API server
    stores neither.
    """
    if isinstance(wanted, dict):
        held = live if isinstance(live, dict) else {}
        return (live is not None or not wanted) and all(covers(held.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return _covers_list(live if isinstance(live, list) else [], wanted)
    if live is None:
        return not wanted
    # Python takes True for 1; a manifest does not.
    if isinstance(live, bool) or isinstance(wanted, bool):
        return live is wanted
    return bool(live == wanted) or _same_quantity(live, wanted)


def quantity(text: str | int) -> Decimal | None:
    """The number of a Kubernetes quantity; None where it is none."""
    spelled = str(text)
    suffix = next((suffix for suffix in ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei") if spelled.endswith(suffix)), spelled[-1:])
    factor = _SUFFIXES.get(suffix)
    try:
        found = Decimal(spelled[: -len(suffix)]) * factor if factor else Decimal(spelled)
    except InvalidOperation:
        return None
    return found if found.is_finite() else None


def _covers_list(live: list[Any], wanted: list[Any]) -> bool:
    key = next((key for key in _KEYS if wanted and all(isinstance(one, dict) and key in one for one in wanted)), None)
    if key is None:
        return len(live) == len(wanted) and all(covers(one, other) for one, other in zip(live, wanted, strict=True))
    held = {one[key]: one for one in live if isinstance(one, dict) and key in one}
    return all(one[key] in held and covers(held[one[key]], one) for one in wanted)


def _same_quantity(live: Any, wanted: Any) -> bool:
    if not isinstance(live, str | int) or not isinstance(wanted, str | int):
        return False
    one, other = quantity(live), quantity(wanted)
    return one is not None and one == other
