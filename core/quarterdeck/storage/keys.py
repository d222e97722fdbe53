"""Names of objects: which keys exist, and which strings are keys at all."""

from __future__ import annotations

import re
from typing import Literal

from quarterdeck.errors import InvalidInput
from quarterdeck.schema import NAME_PATTERN

MAX_KEY = 512
"""Longest key in characters, so that prefix and key together stay under S3's 1,024 bytes."""
# Safe as a file name, in a URL and in a shell; `=` is there for the partitions of record files.
_SEGMENT = r"[A-Za-z0-9_][A-Za-z0-9._=-]{0,199}"
_KEY = re.compile(rf"{_SEGMENT}(/{_SEGMENT})*")
_PREFIX = re.compile(rf"({_SEGMENT}/)*({_SEGMENT})?")
_NAME = re.compile(NAME_PATTERN)
_KEYS = "Use relative keys of letters, digits and ._=- between slashes; no segment starts with a dot."
_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_key(key: str) -> str:
    """Give `key` back where it is one: relative, '/'-separated, no segment that starts with a dot, nothing to interpret.

    Raises:
        InvalidInput: it is not; the detail does not repeat it, for it may come from outside.
    """
    if len(key) > MAX_KEY or not _KEY.fullmatch(key):
        raise InvalidInput(
            "This is not the key of an object in a store.",
            kind="key",
            hint=_KEYS,
        )
    return key


def check_prefix(prefix: str) -> str:
    """Give `prefix` back where keys can start with it; empty means all keys.

    Raises:
        InvalidInput: no key can start like this.
    """
    if len(prefix) > MAX_KEY or not _PREFIX.fullmatch(prefix):
        raise InvalidInput("No key of a store can start like this prefix.", kind="key", hint=_KEYS)
    return prefix


def manifest_key(model: str, version: int) -> str:
    """Key of the manifest of one version; to hold it is to hold the version number.

    Raises:
        InvalidInput: `model` is no name, or `version` is below 1.
    """
    return f"{versions_prefix(model)}{_positive(version)}/manifest.json"


def versions_prefix(model: str) -> str:
    """What the manifests of all versions of a model start with, up to and including the last slash."""
    return f"models/{_name(model, 'model')}/"


def blob_key(sha256: str) -> str:
    """Key of a file's bytes, by their digest (64 lower-case hex digits, without ``sha256:``).

    Raises:
        InvalidInput: it is no digest.
    """
    if not _SHA256.fullmatch(sha256):
        hint = "Take the sha256 of a file in the manifest."
        raise InvalidInput("A blob is named by 64 lower-case hex digits.", kind="key", hint=hint)
    return f"blobs/sha256/{sha256}"


def dataset_name(deployment: str, namespace: str = "") -> str:
    """How a deployment's records are called: by its name; in a cluster by namespace and name, with a dot, which no name has.

    Raises:
        InvalidInput: one of both is no name.
    """
    name = _name(deployment, "deployment")
    return f"{_name(namespace, 'namespace')}.{name}" if namespace else name


def records_prefix(dataset: str, kind: Literal["main", "challenger"]) -> str:
    """What all record files of one data set and kind start with, up to and including the last slash.

    Raises:
        InvalidInput: `dataset` is none that `dataset_name` gives.
    """
    for part in dataset.split(".", 1):
        _name(part, "deployment")
    return f"records/{dataset}/{kind}/"


def _name(value: str, kind: str) -> str:
    if not _NAME.fullmatch(value):
        hint = "Names have 1 to 63 lower-case letters, digits and dashes."
        raise InvalidInput(f"This is not the name of a {kind}.", kind=kind, hint=hint)
    return value


def _positive(version: int) -> int:
    if version < 1:
        raise InvalidInput("Versions are counted from 1.", kind="version", name=str(version), hint="Name a version from 1 on.")
    return version
