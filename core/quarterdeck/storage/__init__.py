"""Where packages and records lie: one protocol, three stores (S3, a folder, memory)."""

from __future__ import annotations

from quarterdeck.storage.opening import open_storage
from quarterdeck.storage.protocol import Storage

__all__ = ["Storage", "open_storage"]
