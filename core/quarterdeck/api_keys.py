"""The form of API keys: ``qdk_<id>_<secret>_<crc32>``, told from a mistyped one without asking anybody."""

from __future__ import annotations

import re
import zlib

_WHOLE = re.compile(r"qdk_[a-z0-9]{8}_[A-Za-z0-9_-]{43}_[0-9a-f]{8}")


def format_key(ident: str, secret: str) -> str:
    """A key: leak scanners find its prefix, and its checksum tells a typo from a foreign key.

    Args:
        ident: 8 lower-case letters or digits; public.
        secret: 43 characters of base64url: 256 random bits.
    """
    body = f"qdk_{ident}_{secret}"
    return f"{body}_{_checksum(body)}"


def mistyped(key: str) -> bool:
    """Whether this was meant to be one of our keys (it has the prefix) and lost or changed a character on the way."""
    if not key.startswith("qdk_"):
        return False
    body, _, checksum = key.rpartition("_")
    return not (_WHOLE.fullmatch(key) and checksum == _checksum(body))


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode('utf-8', 'surrogateescape')):08x}"
