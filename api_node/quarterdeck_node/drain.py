"""A server that leaves without losing a request.

SIGTERM → the plan server and health watchers are told, the doors stay open for the drain time, or up to three times as long while
requests come, and every answer asks for its connection to be closed → /ready says no for as long as its probes need to notice →
the listeners close → what is in flight is finished. A second signal changes nothing: there is nothing to hurry.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from types import FrameType

import uvicorn

from quarterdeck_node.node import Node
from quarterdeck_node.protocol import LimitedProtocol

LONGEST_DRAINS = 3
"""So many drain times at most: whoever is still asked may be the only one there is, and another is on its way."""
QUIET_SECONDS = 1.0
LAST_SECONDS = 1.0
"""How long connections that are open when the door closes may still bring a request that is on its way."""


class DrainingServer(uvicorn.Server):
    """uvicorn with a drain before its own shutdown.

    Args:
        config: uvicorn's.
        node: told when the drain begins.
        beside: another listener's end: it takes no more calls and finishes those that there are within so many seconds.
    """

    def __init__(self, config: uvicorn.Config, node: Node, beside: Callable[[float], Awaitable[None]] | None = None) -> None:
        super().__init__(config)
        self._beside = beside
        self._node = node
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Remember the loop that signals have to reach."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain. Runs between two byte codes of the main thread, so it only hands over to the loop."""
        # A signal before the loop runs: nothing was served yet, so there is nothing to drain.
        if self._loop is None:
            self.should_exit = True
        elif not self._node.draining:
            self._node.draining = True
            self._loop.call_soon_threadsafe(self._drain)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: close connections whose request does not come, or whose answers are not taken."""
        if counter % 10 == 0:
            now, settings = time.monotonic(), self._node.settings
            for connection in list(self.server_state.connections):
                if not isinstance(connection, LimitedProtocol):
                    continue
                # Closing would wait until the answers are taken, which is just what does not happen.
                if connection.stalled(now, settings.send_seconds):
                    connection.transport.abort()
                elif connection.late(now, settings.receive_seconds) or connection.idle(now, settings.keep_alive_seconds):
                    connection.transport.close()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the doors, but answer everybody who is through: whoever waits in the kernel's queue is let in first."""
        # Side by side: neither door's callers wait for those of the other.
        beside = asyncio.ensure_future(self._beside(float(self.config.timeout_graceful_shutdown or 0))) if self._beside else None
        listeners = [listener.dup() for listener in sockets or []]
        for server in self.servers:
            server.close()
        for sock in sockets or []:
            sock.close()
        # The loop has let go of its own descriptor after its next turn; ours keeps the kernel's queue alive until it is empty.
        await asyncio.sleep(0)
        for listener in listeners:
            for connection in _backlog(listener):
                await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        # A kept connection may carry a request that was sent before its client knew.
        deadline = time.monotonic() + LAST_SECONDS
        while self.server_state.connections and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        await super().shutdown()
        if beside is not None:
            await beside

    def _drain(self) -> None:
        self._node.drain()
        loop, seconds = asyncio.get_running_loop(), self._node.settings.drain_seconds
        loop.call_later(seconds, self._close, self._asked(), loop.time() + LONGEST_DRAINS * seconds)

    def _close(self, asked: int, deadline: float, quiet: float | None = None) -> None:
        """Close the doors once nobody comes, and once whoever leads callers here has had the time to see it.

        Args:
            asked: how many predictions had been asked for at the last look.
            deadline: loop time from which those who still come are waited for no longer.
            quiet: loop time since which nobody has come; None: they still do.
        """
        loop, now = asyncio.get_running_loop(), self._asked()
        # Not requests as such: health watchers go on asking until the process is gone.
        if now != asked and loop.time() < deadline:
            quiet = None
        elif quiet is None:
            quiet = loop.time()
        # Where whoever had taken over leaves as well, callers come back, to a door that is open still and says so again.
        self._node.leaving = quiet is not None
        if quiet is not None and loop.time() - quiet >= self._node.settings.leave_seconds:
            self.should_exit = True
        else:
            loop.call_later(QUIET_SECONDS, self._close, now, deadline, quiet)

    def _asked(self) -> int:
        return sum(count.requests for count in self._node.predictor.counts.values())

    def _protocol(self) -> asyncio.Protocol:
        """As uvicorn makes them for connections that it accepts itself."""
        made = self.config.http_protocol_class
        protocol: asyncio.Protocol = made(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)  # type: ignore
        return protocol


def _backlog(listener: socket.socket) -> list[socket.socket]:
    """Accept everybody who is connected already, then close: nothing comes between the last accept and the close."""
    listener.setblocking(False)
    found = []
    try:
        while True:
            found.append(listener.accept()[0])
    except BlockingIOError:
        listener.close()
    return found
