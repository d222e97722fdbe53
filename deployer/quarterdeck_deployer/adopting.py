"""What serves is adopted where the database is older than it: after a backup was restored, nothing is taken back by that.

A node echoes the number of the revision that it serves. Where that number is higher than the newest one that the database
knows, the database has been set back. What the node says then becomes a new revision above all numbers that were ever
given out, and the decision record says that it is active already, so that no plan asks for anything else meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from quarterdeck.plan import DeploymentPlan, DeploymentReport, NodeReport, VersionRef
from quarterdeck.rollout import Counted, Record
from quarterdeck.rollout_record import same
from quarterdeck_deployer.revisions import Content, RevisionView

WHY = "the database was older than what ran"


@dataclass(frozen=True, slots=True)
class Served:
    """What the nodes do for one deployment, of which the database knows less.

    Attributes:
        generation: the highest number of a revision that any of them has named.
        revision: the highest number that answers have named.
        told: what the main node with the newest wish was told.
        active: what that node answers with; None: with nothing.
        challenger: what the challenger nodes were told to answer with.
        mirroring: the version that rows are copied to; None: to nobody.
    """

    generation: int
    revision: int
    told: DeploymentPlan
    active: VersionRef | None
    challenger: VersionRef | None
    mirroring: VersionRef | None


def ahead(numbers: Mapping[str, int], reports: Sequence[NodeReport]) -> set[str]:
    """The deployments of which some node has seen a newer revision than the database.

    Args:
        numbers: newest revision of every deployment that the database has ever known, deleted ones too.
        reports: of live nodes.
    """
    return {one.name for report in reports for one in report.deployments if one.generation > numbers.get(one.name, 0)}


def untold(names: Collection[str], reports: Sequence[NodeReport]) -> set[str]:
    """The nodes that hold one of these deployments and have not said what they were told about it."""
    return {
        report.node
        for report in reports
        for one in report.deployments
        if one.name in names and not any(told.name == one.name for told in report.told)
    }


def served(name: str, reports: Sequence[NodeReport]) -> Served | None:
    """What runs of a deployment; None where no main node says enough of it for anything to be adopted.

    Args:
        reports: of live nodes, with what they were told.
    """
    mains = [found for report in reports if report.role == "main" and (found := _of(name, report))]
    if not mains:
        return None
    # Of those with the newest wish one that answers: the others may still be loading what it has.
    one, told = max(mains, key=lambda found: (found[0].generation, found[0].active is not None))
    active = next((ref for ref in [told.active, *told.resident] if ref is not None and ref.digest == one.active), None)
    challengers = [found for report in reports if report.role == "challenger" and (found := _of(name, report))]
    mirroring = told.mirror.version if told.mirror and told.mirror.version.digest == one.mirroring else None
    beside = [plan.active for said, plan in challengers if said.generation == one.generation]
    return Served(
        generation=max(said.generation for said, _ in [*mains, *challengers]),
        revision=max(said.revision for said, _ in mains),
        told=told,
        active=active,
        challenger=beside[0] if beside else mirroring,
        mirroring=mirroring,
    )


def content(found: Served, current: RevisionView | None, stage: str) -> Content | None:
    """The wish that asks for exactly what runs; None where a deployment that nobody knows is stopped, so that nothing runs.

    Args:
        current: the newest revision that the database knows of it; None: it knows none.
        stage: where it lives.
    """
    told = found.told
    main = found.active or next(iter(told.resident), None) or (current.main if current else None)
    if main is None:
        return None
    running = bool(told.resident)
    if current is not None:
        changes = {"main": main, "challenger": found.challenger, "access": told.access, "records": told.records}
        # What a stopped deployment was to mirror to nobody can tell; what was wished then is the best guess.
        kept = {} if running else {"challenger": current.challenger}
        return current.content.model_copy(update={**changes, **kept, "project": told.project, "running": running})
    return Content(
        description="",
        project=told.project,
        stage=stage,
        service=told.service if told.service != told.name else None,
        main=main,
        challenger=found.challenger,
        access=told.access,
        records=told.records,
        running=True,
    )


def record(found: Served, known: Record, now: float) -> Record:
    """The decision record in which what answers is active already. It must not be decided anew: that would take time.

    Args:
        known: as the database has it.
        now: Unix seconds.
    """
    update: dict[str, object] = {
        "revision": max(known.revision, found.revision),
        "target": None,
        "target_since": 0.0,
        "hold": None,
    }
    if found.active is not None and not same(found.active, known.active):
        # The way back is what the nodes hold beside it: it needs no load.
        others = [ref for ref in [*found.told.resident, known.active] if ref is not None and not same(ref, found.active)]
        update |= {
            "active": found.active,
            "active_since": now,
            "previous": others[0] if others else None,
            "left": None,
            "watch": None,
            "counted": Counted(),
        }
    if found.active is not None:
        update["rejected"] = [digest for digest in known.rejected if digest != found.active.digest]
    # Copies go on without a break; to a challenger that nobody has proven yet they begin as they always do.
    update["challenger"] = found.mirroring
    return known.model_copy(update=update)


def _of(name: str, report: NodeReport) -> tuple[DeploymentReport, DeploymentPlan] | None:
    said = next((one for one in report.deployments if one.name == name), None)
    told = next((one for one in report.told if one.name == name), None)
    return (said, told) if said is not None and told is not None else None
