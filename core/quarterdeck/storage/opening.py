"""From the URL of a store to the store."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from quarterdeck.errors import InvalidInput
from quarterdeck.storage.folder import FolderStorage
from quarterdeck.storage.memory import MemoryStorage
from quarterdeck.storage.protocol import Storage
from quarterdeck.storage.s3 import S3Storage
from quarterdeck.storage.s3_access import S3Files

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_QUERY = {"endpoint", "region"}
_FORMS = "Use a folder's path, file:///folder, s3://bucket/prefix?endpoint=…&region=… or memory://name."
_SECRETS = "Give credentials as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or in the credentials file."


def open_storage(url: str | Path, files: S3Files | None = None) -> Storage:
    """The store that a URL names; nothing is contacted or written yet (`Storage.check` does that).

    Args:
        url: a folder's path, ``file:///folder``, ``s3://bucket/prefix?endpoint=…&region=…`` or ``memory://name``.
        files: credentials and authority of an S3 server; the usual AWS settings where None.

    Raises:
        InvalidInput: no such form, or a secret in the URL; the URL is not repeated, because of that secret.
    """
    text = os.fspath(url)
    scheme, separator, _ = text.partition("://")
    if not text or "\0" in text:
        raise _refuse("The URL of the store is empty or no text.", _FORMS)
    # Only `://` makes a URL: folders may have a colon in their name.
    if not separator:
        return FolderStorage(_expanded(Path(text)))
    if scheme == "s3":
        return _s3(text, files)
    if scheme == "file":
        return _file(text)
    if scheme == "memory":
        return MemoryStorage.named(text.removeprefix("memory://"))
    raise _refuse("The URL of the store has a scheme that is not known.", _FORMS)


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise _refuse("The store's folder is in the home of a user that this machine does not know.", _FORMS) from None


def _split(url: str) -> SplitResult:
    """The parts of a URL, its port among them read: Python notices brackets and ports that are none in two places."""
    try:
        parts = urlsplit(url)
        usable = parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise _refuse("The URL of the store, or the endpoint in it, is no URL.", _FORMS)
    return parts


def _file(url: str) -> FolderStorage:
    parts = _split(url)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or not parts.path.startswith("/"):
        raise _refuse("A file URL has three slashes and then the folder's absolute path.", _FORMS)
    return FolderStorage(Path(unquote(parts.path)))


def _s3(url: str, files: S3Files | None) -> S3Storage:
    """Everything after the bucket is public: a URL is stored, shown and sent around, so it may hold no credential."""
    parts = _split(url)
    if "@" in parts.netloc or ":" in parts.netloc:
        raise _refuse("An s3 URL must not hold credentials or a port.", _SECRETS)
    if not _BUCKET.fullmatch(parts.netloc):
        raise _refuse("An s3 URL names a bucket of 3 to 63 lower-case letters, digits, dots and dashes.", _FORMS)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.fragment or not set(query) <= _QUERY:
        raise _refuse("An s3 URL takes endpoint and region in its query, nothing else.", _SECRETS)
    prefix = unquote(parts.path).strip("/")
    endpoint, region = _endpoint(query.get("endpoint", "")), query.get("region", "")
    return S3Storage(parts.netloc, prefix, endpoint=endpoint, region=region, files=files)


def _endpoint(value: str) -> str:
    if not value:
        return ""
    parts = _split(value)
    # The sign itself, not the user's name: a password may come with an empty one.
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
        raise _refuse("The endpoint in an s3 URL is http(s)://host:port and nothing more.", _SECRETS)
    return value.rstrip("/")


def _refuse(detail: str, hint: str) -> InvalidInput:
    return InvalidInput(detail, kind="store", hint=hint)
