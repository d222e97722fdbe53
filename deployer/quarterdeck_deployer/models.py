"""The tables. What a table promises beyond its columns (immutability) is enforced by triggers in the migration."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Utc(TypeDecorator[datetime]):
    """An aware UTC datetime; SQLite keeps no zone, so it is taken off on the way in and put back on the way out."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Aware → naive UTC; what has no zone is UTC."""
        if value is None or value.tzinfo is None:
            return value
        try:
            return value.astimezone(UTC).replace(tzinfo=None)
        # Another zone's first day may be before the first one that there is.
        except OverflowError:
            return value.replace(tzinfo=None)

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
    notes: Mapped[str] = mapped_column(Text, default="", server_default="")
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
    parameters: Mapped[dict[str, Any]] = mapped_column(JSON, server_default="{}")
    created: Mapped[datetime]


class Version(Base):
    """An immutable package: its number, its digest, and its manifest as stored."""

    __tablename__ = "versions"
    __table_args__ = (UniqueConstraint("model", "digest", name="versions_model_digest"), Index("versions_digest", "digest"))
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
    # Over this row and the seal of the row before: whoever changes history breaks the chain.
    sha256: Mapped[str] = mapped_column(server_default="")


class Action(Base):
    """What became of one revision; once it has ended the database itself refuses to change it."""

    __tablename__ = "actions"
    __table_args__ = (
        Index("actions_deployment", "deployment", "sequence"),
        Index("actions_state", "state", "sequence"),
    )
    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(unique=True)
    deployment: Mapped[str] = mapped_column(ForeignKey("deployments.name"))
    revision: Mapped[int]
    verb: Mapped[str]
    who: Mapped[str]
    why: Mapped[str]
    state: Mapped[str]
    reason: Mapped[str]
    created: Mapped[datetime]
    ended: Mapped[datetime | None]


class StoredAnswer(Base):
    """What a request under an Idempotency-Key was answered, for the same caller who sends it again."""

    __tablename__ = "answers"
    __table_args__ = (Index("answers_created", "created"),)
    who: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    # Of the request: the same key must not answer another one.
    fingerprint: Mapped[str]
    answer: Mapped[dict[str, Any]]
    created: Mapped[datetime]


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
    # Requests per second at each node, and how many may come at once before that counts.
    rate: Mapped[float | None]
    burst: Mapped[int | None]
    # What nodes told, coarse: it is for people who wonder whether an old key is still in use.
    last_used: Mapped[datetime | None]
    # The key whose place it took.
    replaces: Mapped[str | None]


class LoginSession(Base):
    """One browser session of the console; of its id only a keyed SHA-256 is kept."""

    __tablename__ = "sessions"
    sha256: Mapped[str] = mapped_column(primary_key=True)
    # None for sessions that the admin token has begun.
    person: Mapped[str | None] = mapped_column(ForeignKey("people.id"))
    created: Mapped[datetime]
    expires: Mapped[datetime]
    # The last request that a person made, to the minute: what nobody uses ends sooner.
    seen: Mapped[datetime]


class Project(Base):
    """What deployments and people are grouped by."""

    __tablename__ = "projects"
    name: Mapped[str] = mapped_column(primary_key=True)
    description: Mapped[str] = mapped_column(default="")
    created: Mapped[datetime]


class Person(Base):
    """Somebody who may sign in; `subject` is what the provider of identities calls them, None before their first time."""

    __tablename__ = "people"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    email: Mapped[str] = mapped_column(unique=True)
    subject: Mapped[str | None] = mapped_column(unique=True)
    role: Mapped[str]
    created: Mapped[datetime]
    seen: Mapped[datetime | None]


class Membership(Base):
    """Whose deployments a person may change."""

    __tablename__ = "memberships"
    person: Mapped[str] = mapped_column(ForeignKey("people.id"), primary_key=True)
    project: Mapped[str] = mapped_column(ForeignKey("projects.name"), primary_key=True)


class SigningKey(Base):
    """A key that people's tokens are signed with, by name; the key itself follows from the name and the admin token."""

    __tablename__ = "signing_keys"
    # Rises: the highest signs.
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(unique=True)
    created: Mapped[datetime]


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
    infrastructure: Mapped[str] = mapped_column(default="local", server_default="local")
    role: Mapped[str] = mapped_column(default="", server_default="")
    url: Mapped[str] = mapped_column(default="", server_default="")
    # Of nodes that joined; those beside the deployer share a token that lies in a file.
    token_sha256: Mapped[str | None]
    joined: Mapped[datetime | None]
    # The row stays: a node that was sent away must hear that, and not that nobody knows it.
    revoked: Mapped[datetime | None]


class InfrastructureRow(Base):
    """One place where deployments run; `settings` are those of its kind."""

    __tablename__ = "infrastructures"
    name: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    store: Mapped[str]
    settings: Mapped[dict[str, Any]]
    created: Mapped[datetime]


class JoinToken(Base):
    """What lets a node join an infrastructure in a role, once; of the token only the SHA-256 is kept."""

    __tablename__ = "join_tokens"
    sha256: Mapped[str] = mapped_column(primary_key=True)
    infrastructure: Mapped[str] = mapped_column(ForeignKey("infrastructures.name"))
    role: Mapped[str]
    created: Mapped[datetime]
    expires: Mapped[datetime]


class NodeUsage(Base):
    """What one node used: its memory at one moment, and the processors that it kept busy since the moment before."""

    __tablename__ = "node_usage"
    __table_args__ = (Index("node_usage_at", "at"),)
    node: Mapped[str] = mapped_column(primary_key=True)
    # Whole Unix seconds: lists go page by page, from one moment to the next.
    at: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    infrastructure: Mapped[str]
    role: Mapped[str]
    rss_bytes: Mapped[int] = mapped_column(BigInteger)
    cpu_cores: Mapped[float | None] = mapped_column(Float)


class VersionState(Base):
    """What may change about a version, beside its immutable row."""

    __tablename__ = "version_states"
    __table_args__ = (
        ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.version"], name="version_states_version"),
        Index("version_states_parent", "parent"),
    )
    model: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    # The manifest's own word, once more where it can be looked up by: who was made from this digest?
    parent: Mapped[str | None]
    notes: Mapped[str] = mapped_column(Text, default="")
    deprecated: Mapped[datetime | None]
    deprecated_why: Mapped[str] = mapped_column(default="")
    # The row stays, so that the number is never given again.
    deleted: Mapped[datetime | None]


class VersionFile(Base):
    """Which blob a version needs; a deletion asks whether somebody else needs it too."""

    __tablename__ = "version_files"
    __table_args__ = (
        ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.version"], name="version_files_version"),
        Index("version_files_sha256", "sha256"),
    )
    model: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(primary_key=True)


class RegistryLabel(Base):
    """A key and a value that people gave to a version, or to the model itself (version 0)."""

    __tablename__ = "registry_labels"
    __table_args__ = (Index("registry_labels_key", "key", "value"),)
    model: Mapped[str] = mapped_column(ForeignKey("models.name"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, default=0)
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class Stage(Base):
    """A step on the way of a version: where its deployments live, and what must be so before a version comes there."""

    __tablename__ = "stages"
    name: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int]
    infrastructure: Mapped[str] = mapped_column(ForeignKey("infrastructures.name"))
    gates: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    approval: Mapped[bool]
    created: Mapped[datetime]


class Promotion(Base):
    """The way of one version from a deployment to the same service's deployment in another stage; kept for good."""

    __tablename__ = "promotions"
    __table_args__ = (Index("promotions_state", "state"), Index("promotions_target", "target"))
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    state: Mapped[str]
    source: Mapped[str] = mapped_column(ForeignKey("deployments.name"))
    source_revision: Mapped[int]
    source_stage: Mapped[str]
    # No foreign key: the target may be made by the promotion itself.
    target: Mapped[str]
    target_stage: Mapped[str]
    # The target's newest revision when the promotion began; 0: there was no such deployment.
    seen: Mapped[int]
    service: Mapped[str]
    project: Mapped[str]
    main: Mapped[dict[str, Any]] = mapped_column(JSON)
    gates: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    copied: Mapped[dict[str, Any] | None]
    code: Mapped[str]
    reason: Mapped[str]
    revision: Mapped[int | None]
    who: Mapped[str]
    why: Mapped[str]
    created: Mapped[datetime]
    ended: Mapped[datetime | None]
    decided_by: Mapped[str]
    decided_why: Mapped[str]
    decided: Mapped[datetime | None]


class SavedQuery(Base):
    """A saved question to a deployment; `expect` has an answer for each row, or there is none and it must merely answer."""

    __tablename__ = "test_queries"
    deployment: Mapped[str] = mapped_column(ForeignKey("deployments.name"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    description: Mapped[str]
    rows: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    expect: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    tolerance: Mapped[float] = mapped_column(Float)
    seeded: Mapped[bool]
    who: Mapped[str]
    changed: Mapped[datetime]
