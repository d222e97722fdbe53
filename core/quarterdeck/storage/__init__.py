"""Where packages and records lie: one protocol, three stores (S3, a folder, memory)."""

from __future__ import annotations

from quarterdeck.storage.opening import open_storage
from quarterdeck.storage.protocol import Storage
from quarterdeck.storage.s3_access import S3Files

__all__ = ["S3Files", "Storage", "open_storage"]
