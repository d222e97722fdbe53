"""Digests of versions that are known by number only: whoever decides has no store, so the nodes look them up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from quarterdeck.errors import QuarterdeckError, StorageError
from quarterdeck.plan import DeploymentPlan, Plan, Resolved, VersionName
from quarterdeck_node.agent_client import Agent
from quarterdeck_node.loading import CORRECTION_PAUSE, FIRST_PAUSE, LONGEST_PAUSE

_log = logging.getLogger(__name__)
_Wanted = tuple[str, VersionName]


class Resolver:
    """Looks up what the plan asks for, again and again until it is found or not asked for any more.

    Args:
        agent: reads the store.
        changed: called after every answer.
        correction_pause: seconds between tries where the error is one that waiting alone does not mend.
    """

    def __init__(self, agent: Agent, changed: Callable[[], None], *, correction_pause: float = CORRECTION_PAUSE) -> None:
        self._agent, self._changed, self._correction_pause = agent, changed, correction_pause
        self._tasks: dict[_Wanted, asyncio.Task[None]] = {}
        self._found: dict[_Wanted, Resolved] = {}
        self._generations: dict[str, int] = {}
        self._store = ""

    def apply(self, plan: Plan) -> None:
        """Take over a plan. Returns at once."""
        before, self._generations = self._generations, {one.name: one.generation for one in plan.deployments}
        self._store = plan.store
        wanted: set[_Wanted] = set()
        again: set[_Wanted] = set()
        for one in plan.deployments:
            asked = {(plan.store, version) for version in one.resolve}
            wanted |= asked
            # A person who has just corrected something need not wait for the end of a pause.
            if one.generation > before.get(one.name, 0):
                again |= {each for each in asked if each in self._found and self._found[each].digest is None}
        for each in [each for each in self._tasks if each not in wanted or each in again]:
            self._tasks.pop(each).cancel()
            self._found.pop(each, None)
        for each in wanted - self._tasks.keys():
            self._tasks[each] = asyncio.create_task(self._look_up(each))

    def resolved(self, deployment: DeploymentPlan) -> list[Resolved]:
        """The answers for one deployment so far, in the order in which they were asked for."""
        asked = [(self._store, version) for version in deployment.resolve]
        return [self._found[each] for each in asked if each in self._found]

    async def close(self) -> None:
        """Stop looking."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks = {}

    async def _look_up(self, wanted: _Wanted) -> None:
        (store, version), pause = wanted, FIRST_PAUSE
        while True:
            answer, waits = await self._asked(store, version)
            if self._found.get(wanted) != answer:
                self._found[wanted] = answer
                self._changed()
            if answer.digest is not None:
                return
            # Never given up: whoever pushes the package or corrects the bucket must not have to say so here as well.
            await asyncio.sleep(self._correction_pause if waits else pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _asked(self, store: str, version: VersionName) -> tuple[Resolved, bool]:
        """One answer, and whether it takes a person to get a better one."""
        code, reason, waits = "resolve-failed", "", True
        try:
            digest = await self._agent.resolve(version, store)
            return Resolved(model=version.model, version=version.version, digest=digest), False
        except QuarterdeckError as error:
            code, reason = error.code, str(error)
            waits = not (isinstance(error, StorageError) and error.retryable)
        # Whatever it was: a task that ended here would leave its question open for ever.
        except Exception as error:
            _log.exception("the digest of %s cannot be looked up", version)
            reason = f"Looking it up raised {type(error).__name__}."
        _log.warning("the digest of %s is not known: %s (%s)", version, reason, code)
        return Resolved(model=version.model, version=version.version, code=code, reason=reason), waits
