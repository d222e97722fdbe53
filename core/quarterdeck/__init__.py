"""Quarterdeck: model packages, the rules that serve them, and the client of the deployer.

Importing this package loads none of the heavy libraries: `quarterdeck.package` fetches them when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quarterdeck.build import BuiltPackage, package

__all__ = ["BuiltPackage", "package"]


# A module's __getattr__ (PEP 562): a node that imports quarterdeck.errors must not pay for pandas and scikit-learn.
def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'quarterdeck' has no attribute {name!r}")
    return getattr(import_module("quarterdeck.build"), name)
