"""S3 credentials and a certificate authority that lie in files, as a mounted Secret and ConfigMap do.

The files are looked at before every action and read again when they have changed: rotation needs no restart.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from quarterdeck.errors import StorageError

ACCESS_KEY, SECRET_KEY, TOKEN = "access-key-id", "secret-access-key", "session-token"
CREDENTIAL_HINT = f"Put `{ACCESS_KEY}` and `{SECRET_KEY}` into the Secret that `spec.store.secret` names."
CA_HINT = "Put the PEM text of the server's authority as `ca.crt` into the ConfigMap that `spec.store.caConfigMap` names."


class S3Credentials(NamedTuple):
    """What signs requests; `token` only for temporary credentials."""

    access_key: str
    secret_key: str
    token: str | None


class S3Files(NamedTuple):
    """Where they lie. Two stores with the same files share nothing but the files.

    Args:
        folder: with `access-key-id`, `secret-access-key` and, if there is one, `session-token`; None: the usual AWS settings.
        ca: PEM file of the authority that signed the server's certificate; None: the usual ones.
    """

    folder: Path | None = None
    ca: Path | None = None

    def state(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Something that differs after any of the files was replaced, removed or added."""
        parts = [self.folder / name for name in (ACCESS_KEY, SECRET_KEY, TOKEN)] if self.folder else []
        return tuple(_state(path) for path in (*parts, *([self.ca] if self.ca else [])))

    def credentials(self) -> S3Credentials | None:
        """What the files hold; None where they are not used.

        Raises:
            StorageError: ``credentials-missing``, naming the Secret's key; waiting may help.
        """
        if self.folder is None:
            return None
        access, secret = _text(self.folder / ACCESS_KEY), _text(self.folder / SECRET_KEY)
        for key, value in ((ACCESS_KEY, access), (SECRET_KEY, secret)):
            if not value:
                raise _missing(f"The S3 credentials have no usable `{key}`.", "credentials-missing", key, CREDENTIAL_HINT)
        return S3Credentials(access, secret, _text(self.folder / TOKEN) or None)

    def verify(self) -> str | None:
        """The authority's file as botocore takes it; None where it is not used.

        Raises:
            StorageError: ``ca-missing``; waiting may help.
        """
        if self.ca is None:
            return None
        if not _text(self.ca):
            raise _missing("The authority of the S3 server has no usable `ca.crt`.", "ca-missing", "ca.crt", CA_HINT)
        return str(self.ca)


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    # Mounted volumes are exchanged by a symbolic link, so the inode tells even of a file with the same time.
    return found.st_ino, found.st_mtime_ns, found.st_size


def _text(path: Path) -> str:
    try:
        # Line ends are no part of a key: editors and `kubectl create secret --from-file` leave them there.
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _missing(detail: str, code: str, name: str, hint: str) -> StorageError:
    return StorageError(detail, code=code, kind="file", name=name, hint=hint)
