"""Looking at every deployment: when an operator begins to lead, and now and then, for an event may have been lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from quarterdeck.errors import QuarterdeckError
from quarterdeck_operator.world import ResourceKey

AGAIN_SECONDS = 2.0
"""Until a list that failed is tried again: whoever has just begun to lead knows no deployment otherwise."""
log = logging.getLogger(__name__)


class Relisting:
    """Lists deployments and asks for a look at each. Belongs to one loop.

    Args:
        keys: lists them; what it raises as a QuarterdeckError is retried.
        add: asks for a look.
        leads: whether anything may be done.
        seconds: pause between two lists that nobody has asked for.
    """

    def __init__(
        self,
        keys: Callable[[], Awaitable[Iterable[ResourceKey]]],
        add: Callable[[ResourceKey], None],
        leads: Callable[[], bool],
        seconds: float,
    ) -> None:
        self._keys, self._add, self._leads, self._seconds = keys, add, leads, seconds
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """List soon. Returns at once: whoever keeps the Lease must not wait for a long list."""
        self._asked.set()

    async def run(self) -> None:
        """List whenever it is due, until cancelled."""
        pause = self._seconds
        while True:
            try:
                async with asyncio.timeout(pause):
                    await self._asked.wait()
            except TimeoutError:
                pass
            self._asked.clear()
            pause = self._seconds if not self._leads() or await self._list() else AGAIN_SECONDS

    async def _list(self) -> bool:
        try:
            found = await self._keys()
        except QuarterdeckError as error:
            log.warning("deployments could not be listed: %s", error)
            return False
        for key in found:
            self._add(key)
        return True
