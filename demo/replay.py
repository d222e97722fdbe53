"""Sends flights to the REST door as many callers would: small requests, several connections, ids of the caller's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import httpx

from quarterdeck.client import Label
from quarterdeck.schema import Row

CONNECTIONS = 8
ROWS_PER_REQUEST = 16


@dataclass
class Replayed:
    """What became of the rows: how many were sent, how many were answered with a prediction, and why others were not."""

    sent: int = 0
    answered: int = 0
    failures: list[str] = field(default_factory=list)


def request_name(first: int) -> str:
    """The caller's id of the request whose first row has this index."""
    return f"flights-{first:06d}"


def replay(door: str, rows: Sequence[Row], advance: Callable[[int], None]) -> Replayed:
    """Send all rows, in order, `CONNECTIONS` requests at a time; nothing is sent twice.

    Args:
        door: URL of the deployment's predict route.
        rows: what to send.
        advance: called with the number of rows of every request that is done.
    """
    return asyncio.run(_replay(door, rows, advance))


async def _replay(door: str, rows: Sequence[Row], advance: Callable[[int], None]) -> Replayed:
    done = Replayed()
    # One iterator for all callers: each takes the next request that nobody has taken.
    starts = iter(range(0, len(rows), ROWS_PER_REQUEST))
    limits = httpx.Limits(max_connections=CONNECTIONS)
    async with httpx.AsyncClient(timeout=60, trust_env=False, limits=limits) as client, asyncio.TaskGroup() as callers:
        for _ in range(CONNECTIONS):
            callers.create_task(_caller(client, door, rows, starts, done, advance))
    return done


async def _caller(
    client: httpx.AsyncClient,
    door: str,
    rows: Sequence[Row],
    starts: Iterator[int],
    done: Replayed,
    advance: Callable[[int], None],
) -> None:
    for first in starts:
        part = list(rows[first : first + ROWS_PER_REQUEST])
        # Counted before it is sent: what breaks on the way was sent all the same.
        done.sent += len(part)
        try:
            response = await client.post(door, json=part, headers={"x-request-id": request_name(first)})
        except httpx.TransportError as error:
            done.failures.append(f"{request_name(first)}: {type(error).__name__}")
        else:
            if response.status_code == 200:
                done.answered += len(response.json()["predictions"])
            else:
                done.failures.append(f"{request_name(first)}: {response.status_code} {response.text[:300]}")
        advance(len(part))


def labels(truth: Sequence[str | None]) -> list[Label]:
    """The ground truth of the replayed rows, by the caller's own ids; rows that nobody knows the truth of are left out."""
    return [
        {"caller_id": request_name(index - index % ROWS_PER_REQUEST), "row": index % ROWS_PER_REQUEST, "value": label}
        for index, label in enumerate(truth)
        if label is not None
    ]
