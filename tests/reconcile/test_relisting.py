"""Every deployment is looked at: at once for a new leader, now and then otherwise, and also where a list fails."""

from __future__ import annotations

import asyncio

from quarterdeck_operator.kube import ApiFailure
from quarterdeck_operator.relisting import Relisting
from quarterdeck_operator.world import ResourceKey
from tests.virtual_time import run

KEYS = [ResourceKey("n", "a"), ResourceKey("n", "b")]


class _Cluster:
    """Lists that fail so often, and the moments at which deployments were asked for."""

    def __init__(self, failures: int = 0, *, leads: bool = True) -> None:
        self._failures, self.leads, self.asked = failures, leads, list[tuple[float, ResourceKey]]()
        self.relisting = Relisting(self._keys, self._add, lambda: self.leads, 300.0)

    async def _keys(self) -> list[ResourceKey]:
        if self._failures:
            self._failures -= 1
            raise ApiFailure("The list was not answered.", http=500)
        return KEYS

    def _add(self, key: ResourceKey) -> None:
        self.asked.append((asyncio.get_running_loop().time(), key))

    async def lead(self, seconds: float, *, ask: bool) -> list[tuple[int, ResourceKey]]:
        """Run for so long; who was asked for, after how many whole seconds."""
        began = asyncio.get_running_loop().time()
        task = asyncio.create_task(self.relisting.run())
        if ask:
            self.relisting.ask()
        await asyncio.sleep(seconds)
        task.cancel()
        return [(int(moment - began), key) for moment, key in self.asked]


def test_a_new_leader_looks_at_all_within_seconds_also_where_the_first_lists_fail() -> None:
    """It knows nobody else's deployments, and waits for no event."""
    assert run(_Cluster().lead(60.0, ask=True)) == [(0, key) for key in KEYS]
    assert run(_Cluster(failures=3).lead(60.0, ask=True)) == [(6, key) for key in KEYS]


def test_all_are_looked_at_now_and_then_by_the_leader_alone() -> None:
    """Every five minutes."""
    assert [moment for moment, _ in run(_Cluster().lead(700.0, ask=False))] == [300, 300, 600, 600]
    assert run(_Cluster(leads=False).lead(700.0, ask=True)) == []
