"""When keys were let in last, as nodes tell it, noted down for the deployer: one ConfigMap in each namespace.

The deployer reads no pods' words, and the status of a resource would change all day: so it is written apart, and seldom.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from pydantic import TypeAdapter

from quarterdeck.errors import QuarterdeckError
from quarterdeck.placement import KEY_USES, KEY_USES_ENTRY
from quarterdeck.plan import KeyUse
from quarterdeck_operator.board import Board
from quarterdeck_operator.kube import APPLY, CONFIG_MAP, FIELD_MANAGER, MANAGED_BY, Writes

EVERY_SECONDS = 60.0
_USES = TypeAdapter(list[KeyUse])
log = logging.getLogger(__name__)


class KeyUseNotes:
    """Writes what has changed since it wrote last.

    Args:
        board: has the nodes' words.
        writes: of the API server.
    """

    def __init__(self, board: Board, writes: Writes) -> None:
        self._board, self._writes = board, writes
        self._written: dict[str, str] = {}

    def write(self) -> None:
        """Note it in every namespace where nodes tell something new; blocks. What cannot be written is tried the next time."""
        for namespace, uses in self._board.key_uses().items():
            text = _USES.dump_json(uses).decode()
            if not uses or self._written.get(namespace) == text:
                continue
            about = {"name": KEY_USES, "namespace": namespace, "labels": {MANAGED_BY: FIELD_MANAGER}}
            kind = {"apiVersion": CONFIG_MAP.api_version, "kind": CONFIG_MAP.name}
            body = {**kind, "metadata": about, "data": {KEY_USES_ENTRY: text}}
            try:
                self._writes.patch(CONFIG_MAP.path(namespace, KEY_USES), body, APPLY)
            except QuarterdeckError as error:
                # Nothing is decided by it, and another namespace's may be written all the same.
                log.warning("the uses of keys could not be noted in namespace %s: %s", namespace, error)
            else:
                self._written[namespace] = text


async def noting(write: Callable[[], Awaitable[None]], leads: Callable[[], bool], seconds: float = EVERY_SECONDS) -> None:
    """Write once in a while, while this operator leads; until cancelled."""
    while True:
        await asyncio.sleep(seconds)
        if leads():
            await write()
