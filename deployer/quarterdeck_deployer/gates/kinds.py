"""The gates that a stage may have, with their parameters, and what each of them finds."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from quarterdeck.schema import Frozen

GateName = Literal["package", "golden", "scenarios", "schema", "replay"]
ORDER: tuple[GateName, ...] = ("package", "golden", "scenarios", "schema", "replay")
"""Cheap and certain ones first; the first refusal ends a promotion."""
MAX_LISTED = 100
"""Rows that a finding lists at most; its figures count all."""


class PackageGate(Frozen):
    """Every file of the package lies in the target's store and has its digest."""

    gate: Literal["package"] = "package"


class GoldenGate(Frozen):
    """The package, loaded in a process of its own as a node would, answers its golden rows rightly."""

    gate: Literal["golden"] = "golden"


class ScenariosGate(Frozen):
    """The deployment's saved test queries get answers, and the expected ones where there are expectations."""

    gate: Literal["scenarios"] = "scenarios"


class SchemaGate(Frozen):
    """The version accepts every row that the deployment has recorded lately."""

    gate: Literal["schema"] = "schema"
    days: Annotated[int, Field(ge=1, le=90, description="How far back.")] = 7


class ReplayGate(Frozen):
    """Recorded rows, asked of the version again, get answers that are not too far from the recorded ones."""

    gate: Literal["replay"] = "replay"
    days: Annotated[int, Field(ge=1, le=90, description="How far back.")] = 7
    rows: Annotated[int, Field(ge=1, le=10_000, description="So many of the newest rows.")] = 1_000
    tolerance: Annotated[
        float, Field(ge=0, allow_inf_nan=False, description="A score, or a number, may differ by so much; a label not at all.")
    ] = 0.1
    max_changed: Annotated[float, Field(ge=0, le=1, description="Share of the rows that may change.")] = 0.2


Gate = Annotated[PackageGate | GoldenGate | ScenariosGate | SchemaGate | ReplayGate, Field(discriminator="gate")]
GATES: TypeAdapter[list[Gate]] = TypeAdapter(list[Gate])


class Finding(Frozen):
    """What one gate has found: whether the version may pass, why not, and the rows in question."""

    passed: bool
    detail: str = Field(description="In a sentence.")
    code: str = Field("", description="Stable code of a refusal.")
    figures: dict[str, float] = Field(default_factory=dict, description="What was counted or measured.")
    listed: list[dict[str, Any]] = Field(default_factory=list, description=f"The rows in question, {MAX_LISTED} at most.")


class Look(Frozen):
    """Where to look at what a gate has found."""

    command: str = Field(examples=["quarterdeck promotion show 17"])
    url: str = Field(examples=["/api/promotions/17"])


class GateResult(Finding):
    """A finding as a promotion keeps it."""

    gate: GateName
    look: Look
    ended: datetime
    seconds: float


def ordered(gates: list[Gate]) -> list[Gate]:
    """The gates in the order in which they are asked."""
    return sorted(gates, key=lambda gate: ORDER.index(gate.gate))
