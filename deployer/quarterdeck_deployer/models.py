"""The tables. What a table promises beyond its columns (immutability) is enforced by triggers in the migration."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import JSON, DateTime, Dialect, Float, ForeignKey, Index, Text, TypeDecorator, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Utc(TypeDecorator[datetime]):
    """An aware UTC datetime; SQLite keeps no zone, so it is taken off on the way in and put back on the way out."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Aware → naive UTC."""
        return value.astimezone(UTC).replace(tzinfo=None) if value else None

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        """Naive UTC → aware."""
        return value.replace(tzinfo=UTC) if value else None


class Base(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {datetime: Utc, dict[str, Any]: JSON(none_as_null=True), list[str]: JSON}


class Model(Base):
    """A named line of versions."""

    __tablename__ = "models"
    name: Mapped[str] = mapped_column(primary_key=True)
    description: Mapped[str] = mapped_column(default="")
    active_version: Mapped[int | None]
    created: Mapped[datetime]


class Run(Base):
    """A training run with its metrics; it may have produced several versions."""

    __tablename__ = "runs"
    __table_args__ = (UniqueConstraint("model", "name", name="runs_model_name"),)
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    model: Mapped[str] = mapped_column(ForeignKey("models.name"))
    metrics: Mapped[dict[str, Any]]
    created: Mapped[datetime]


class Version(Base):
    """An immutable package: its number, its digest, and its manifest as stored."""

    __tablename__ = "versions"
    __table_args__ = (UniqueConstraint("model", "digest", name="versions_model_digest"),)
    model: Mapped[str] = mapped_column(ForeignKey("models.name"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str]
    # The canonical text itself, not a parsed form: its digest can be checked at any time.
    manifest: Mapped[str] = mapped_column(Text)
    # What lists show of it: a manifest may be megabytes, and a list may have thousands of versions.
    facts: Mapped[dict[str, Any]] = mapped_column(JSON, server_default="{}")
    run: Mapped[str | None] = mapped_column(ForeignKey("runs.id"))
    created: Mapped[datetime]


class Deployment(Base):
    """One endpoint: which revision is wanted, and the decision record of its rollout."""

    __tablename__ = "deployments"
    name: Mapped[str] = mapped_column(primary_key=True)
    revision: Mapped[int]
    record: Mapped[dict[str, Any]]
    # Compare-and-swap: whoever writes the record names the version that they have read.
    record_version: Mapped[int] = mapped_column(default=0)
    # The row stays after a deletion, so that numbers are never given out twice.
    deleted: Mapped[datetime | None]
    created: Mapped[datetime]


class Revision(Base):
    """One change of a deployment, whole; never updated, never deleted."""

    __tablename__ = "revisions"
    deployment: Mapped[str] = mapped_column(ForeignKey("deployments.name"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    content: Mapped[dict[str, Any]]
    # The last revision in which a person chose main: a choice lifts a rejection.
    chosen: Mapped[int]
    leaving: Mapped[str | None]
    restored: Mapped[int | None]
    who: Mapped[str]
    why: Mapped[str]
    created: Mapped[datetime]


class AuditEntry(Base):
    """Who did what to which thing; written in the transaction of the action itself."""

    __tablename__ = "audit"
    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[datetime]
    who: Mapped[str]
    verb: Mapped[str]
    object: Mapped[str]
    before: Mapped[dict[str, Any] | None]
    after: Mapped[dict[str, Any] | None]
    reason: Mapped[str]


class ApiKey(Base):
    """One API key; of its secret only the SHA-256 is kept."""

    __tablename__ = "keys"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    project: Mapped[str]
    # 256 bits of randomness need no slow hash; nodes look keys up by this digest.
    sha256: Mapped[str] = mapped_column(unique=True)
    scopes: Mapped[list[str]]
    created: Mapped[datetime]
    expires: Mapped[datetime | None]
    revoked: Mapped[datetime | None]


class LoginSession(Base):
    """One browser session of the console; of its id only a keyed SHA-256 is kept."""

    __tablename__ = "sessions"
    sha256: Mapped[str] = mapped_column(primary_key=True)
    created: Mapped[datetime]
    expires: Mapped[datetime]


class Label(Base):
    """The ground truth of one predicted row; `value` is JSON text."""

    __tablename__ = "labels"
    __table_args__ = (Index("labels_received", "deployment", "received_at"),)
    deployment: Mapped[str] = mapped_column(primary_key=True)
    row_id: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str] = mapped_column(Text)
    observed_at: Mapped[datetime | None]
    received_at: Mapped[datetime]
    source: Mapped[str]


class NodeState(Base):
    """What was last published to a node and last heard of it; `plan` is the digest of the published content."""

    __tablename__ = "nodes"
    node: Mapped[str] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(default=0)
    # Only a digest: plans carry the mirroring token, which has no business in the database.
    plan: Mapped[str] = mapped_column(default="")
    report: Mapped[dict[str, Any] | None]
    reported: Mapped[float | None] = mapped_column(Float)
