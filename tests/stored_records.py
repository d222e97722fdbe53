"""Puts prediction records and labels where the deployer finds them, in the forms in which nodes and callers send them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from quarterdeck.plan import VersionRef
from quarterdeck.record_files import files
from quarterdeck.records import Answer, ChallengerRecord, Frame, MainRecord, MirroredRow, MirrorResult, row_id
from quarterdeck.schema import Label as LabelValue
from quarterdeck.schema import Row
from quarterdeck.storage import Storage
from quarterdeck.storage.keys import dataset_name
from quarterdeck.storage.memory import MemoryStorage
from quarterdeck_deployer.database import Database
from quarterdeck_deployer.infrastructures.base import Records
from quarterdeck_deployer.models import Label
from quarterdeck_deployer.predictions import PredictionIndex

START = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)


def ref(version: int, model: str = "late-flights") -> VersionRef:
    """A version whose digest is its number, repeated."""
    return VersionRef(model=model, version=version, digest=f"sha256:{version:064x}")


@dataclass
class Stored:
    """A store and a database with records and labels of one deployment, and the index over them."""

    folder: Path
    storage: Storage = field(default_factory=MemoryStorage)
    deployment: str = "late-flights"
    frames: int = 0
    namespace: str = ""

    def __post_init__(self) -> None:
        self.database = Database(self.folder / "deployer.db")
        self.database.migrate()
        self.index = PredictionIndex(
            lambda name: Records(self.storage, dataset_name(name, self.namespace)), self.database.sessions, self.folder / "spill"
        )

    def main(self, version: VersionRef, answers: Sequence[Answer], *, minute: int = 0, caller: str = "") -> list[str]:
        """One request of several rows that main answered; gives their row ids."""
        request = uuid.uuid4().hex
        rows: list[Row] = [{"dep_hour": float(row)} for row in range(len(answers))]
        record = MainRecord(
            ts=_micros(minute), request_id=request, door="plain", latency_us=150, rows=rows, answers=list(answers),
            caller_id=caller, key_id="", **self._place(version),
        )  # fmt: skip
        self.store(record)
        return [row_id(request, row) for row in range(len(answers))]

    def challenger(
        self,
        version: VersionRef,
        ids: Sequence[str],
        answers: Sequence[Answer],
        *,
        minute: int = 0,
        result: MirrorResult = "answered",
    ) -> None:
        """What became of these rows at the challenger; with another result than `answered` there are no answers."""
        if result == "answered":
            rows = [MirroredRow(name, result, *answer, "") for name, answer in zip(ids, answers, strict=True)]
        else:
            rows = [MirroredRow(name, result, None, [], "model-failed") for name in ids]
        self.store(ChallengerRecord(ts=_micros(minute), latency_us=300, rows=rows, **self._place(version)))

    def store(self, record: MainRecord | ChallengerRecord) -> None:
        """Ship one record, in a file of its own."""
        self.frames += 1
        for file in files([Frame(self.frames, record)], "boot", lambda digest: None, self.namespace):
            self.storage.put(file.key, file.data)

    def label(self, ids: Sequence[str], values: Sequence[LabelValue]) -> None:
        """The truth of these rows."""
        with self.database.writing.begin() as session:
            for row_id, value in zip(ids, values, strict=True):
                truth = Label(deployment=self.deployment, row_id=row_id, value=json.dumps(value), received_at=START, source="")
                session.merge(truth)

    def close(self) -> None:
        """Let go of index and database."""
        self.index.close()
        self.database.close()

    def _place(self, version: VersionRef) -> dict[str, Any]:
        place = {"deployment": self.deployment, "project": "default", "stage": "dev", "revision": 1}
        return {**place, "model": version.model, "version": version.version, "digest": version.digest}


def _micros(minute: int) -> int:
    return int((START + timedelta(minutes=minute)).timestamp() * 1_000_000)
