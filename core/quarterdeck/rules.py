"""What must hold between fields of a resource: said once, and kept by everybody who takes it.

Our own reader keeps a rule in Python; an API server keeps it as an expression of CEL, which crd.py hands to it. Both refuse
with the same sentence.
"""

from __future__ import annotations

from typing import Any, NamedTuple

CEL_RULES = "x-kubernetes-validations"
"""The extension of JSON schemas that carries the rules of an object."""


class Rule(NamedTuple):
    """An expression over `self` that must be true, and what people are told where it is not."""

    cel: str
    message: str

    def require(self, holds: object) -> None:
        """Refuse in pydantic's way.

        Raises:
            ValueError: it does not hold.
        """
        if not holds:
            raise ValueError(self.message)


def extension(*rules: Rule) -> dict[str, Any]:
    """The rules as a member of a JSON schema."""
    return {CEL_RULES: [{"rule": rule.cel, "message": rule.message} for rule in rules]}
