"""The interpreter, libraries and variables that a package was made with, and the comparison with what is here."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from importlib import metadata

from quarterdeck.errors import PackageRefused
from quarterdeck.manifest import Environment, Manifest


def current(libraries: Iterable[str], variables: Iterable[str] = ()) -> Environment:
    """This process's interpreter and the installed versions of some distributions; those that are absent are left out."""
    # Sorted, so that the order of a set does not get into the digest.
    found = {name: installed(name) for name in sorted(libraries)}
    return Environment(
        python=platform.python_version(),
        libraries={name: version for name, version in found.items() if version},
        variables=sorted(variables),
    )


def installed(distribution: str) -> str:
    """The installed version of one distribution, read from its metadata without importing it; empty where there is none."""
    try:
        # Metadata, not `__version__`: importing a library to ask it would run it, before anything has been verified.
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def compare_interpreter(manifest: Manifest) -> None:
    """Refuse a package that was made by another feature release of Python; micro releases share their formats."""
    # Pickled bytecode and C extensions change between feature releases, never between micro releases.
    wanted, here = manifest.environment.python, platform.python_version()
    if wanted.split(".")[:2] != here.split(".")[:2]:
        raise _mismatch(manifest, "python", wanted, here)


def compare_libraries(manifest: Manifest) -> None:
    """Refuse a package one of whose libraries is here in another version, or not at all."""
    for library, wanted in sorted(manifest.environment.libraries.items()):
        here = installed(library)
        # Equal, not compatible: estimators' attributes change without notice even in bug-fix releases.
        if here != wanted:
            raise _mismatch(manifest, library, wanted, here or "not installed")


def compare_variables(manifest: Manifest, environ: Mapping[str, str]) -> None:
    """Refuse a package that needs an environment variable that is not set; values are never looked at."""
    for variable in manifest.environment.variables:
        # Set but empty counts as set: whether empty is a value is the model's own affair.
        if variable not in environ:
            raise PackageRefused(
                f"{manifest.model} needs the environment variable {variable}, which is not set here.",
                code="variable-missing",
                kind="package",
                name=manifest.model,
                hint=f"Set {variable} where the node runs, then deploy again.",
                extra={"place": variable},
            )


def _mismatch(manifest: Manifest, place: str, wanted: str, here: str) -> PackageRefused:
    return PackageRefused(
        f"{manifest.model} was made with {place} {wanted}; here is {here}.",
        code="environment-mismatch",
        kind="package",
        name=manifest.model,
        hint=f"Run the node with {place} {wanted}, as `quarterdeck package image` builds it, or build the package again here.",
        extra={"place": place, "wanted": wanted, "here": here},
    )
