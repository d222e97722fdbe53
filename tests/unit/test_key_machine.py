"""API keys in any order of creation, revocation and time: the service, the keyring and the node agree with a small model."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from pydantic import ValidationError
from sqlalchemy import select

from quarterdeck.api_keys import format_key, mistyped
from quarterdeck.errors import Forbidden, NotFound, Unauthenticated
from quarterdeck.plan import AccessMode, Key
from quarterdeck_deployer.audit import Act, Audit, AuditFilter
from quarterdeck_deployer.database import Database
from quarterdeck_deployer.keys import KeyInput, Keys, NewKey, Scope, console_entry, console_key, keyring, mirror_entry
from quarterdeck_deployer.listing import Window
from quarterdeck_deployer.models import ApiKey
from quarterdeck_deployer.projects import ProjectInput, Projects
from quarterdeck_node.auth import Keyring
from tests.nodes import deployment

ACT = Act("somebody", "because")
FORMAT = re.compile(r"qdk_([a-z0-9]{8})_([A-Za-z0-9_-]{43})_([0-9a-f]{8})")
DAY = 86_400.0
AT_ONCE = 1e-10
"""Days: nine microseconds, which are over before the key has been committed."""
LIVES: list[float | None] = [None, AT_ONCE, 1.0, 30.0]
PROJECTS = ["*", "default", "elsewhere"]
SCOPES: list[Scope] = ["predict", "feedback", "read"]


@cache
def template() -> Path:
    """A migrated, empty database, made once."""
    path = Path(tempfile.mkdtemp(prefix="keys-")) / "deployer.db"
    database = Database(path)
    database.migrate()
    database.close()
    return path


def whole(secret: str) -> bool:
    """What anybody can tell of a key without asking: whether it is one at all, by its form and its checksum."""
    found = FORMAT.fullmatch(secret)
    by_hand = bool(found) and f"{zlib.crc32(secret.rpartition('_')[0].encode()):08x}" == secret.rpartition("_")[2]
    assert mistyped(secret) == (secret.startswith("qdk_") and not by_hand)
    return by_hand


@dataclass
class Known:
    """One key as the model knows it."""

    secret: str
    project: str
    scopes: set[Scope]
    expires: float | None
    revoked: bool = False

    def open(self, now: float) -> bool:
        """Whether it opens anything at this moment."""
        return not self.revoked and (self.expires is None or self.expires > now)


class KeyLives(RuleBasedStateMachine):
    """Rules are what an administrator does; every key is then tried at every kind of door."""

    @initialize()
    def begin(self) -> None:
        """No key yet."""
        self.folder = Path(tempfile.mkdtemp(prefix="keys-"))
        shutil.copy(template(), self.folder / "deployer.db")
        self.database = Database(self.folder / "deployer.db")
        self.woken, self.actions = 0, 1
        self.keys = Keys(self.database, self._wake)
        Projects(self.database).create(ProjectInput(name="elsewhere"), ACT)
        self.known: dict[str, Known] = {}

    def _wake(self) -> None:
        self.woken += 1

    @rule(
        project=st.sampled_from(PROJECTS),
        scopes=st.lists(st.sampled_from(SCOPES), min_size=1, max_size=4),
        days=st.sampled_from(LIVES),
    )
    def create(self, project: str, scopes: list[Scope], days: float | None) -> None:
        """Shown once, whole, and told apart from every other."""
        before = self.woken
        made = self.keys.create(KeyInput(name="somebody's", project=project, scopes=scopes, days=days), ACT)
        assert whole(made.secret)
        assert made.secret.split("_")[1] == made.id
        assert made.id not in self.known
        assert made.secret not in repr(made)
        assert made.scopes == [scope for scope in SCOPES if scope in scopes]
        assert self.woken == before + 1
        expires = made.expires.timestamp() if made.expires else None
        self.known[made.id] = Known(made.secret, project, set(scopes), expires)
        self.actions += 1

    @precondition(lambda self: self.known)
    @rule(place=st.integers(0, 30))
    def revoke(self, place: int) -> None:
        """It opens nothing any more; a second time is no action, and keeps the first moment."""
        ident = sorted(self.known)[place % len(self.known)]
        one = self.known[ident]
        first = self.keys.revoke(ident, ACT)
        assert first.revoked is not None
        assert self.keys.revoke(ident, ACT).revoked == first.revoked
        self.actions += not one.revoked
        one.revoked = True

    @rule(ident=st.sampled_from(["", "nobody00", "console0", "mirror", "' or 1=1"]))
    def revoke_what_is_none(self, ident: str) -> None:
        """Refused by name; the console's own key cannot be taken away."""
        with pytest.raises(NotFound, match="no such key"):
            self.keys.revoke(ident, ACT)

    @rule()
    def deployer_restarts(self) -> None:
        """Keys are in the database and nowhere else."""
        self.database.close()
        self.database = Database(self.folder / "deployer.db")
        self.keys = Keys(self.database, self._wake)

    @invariant()
    def keyring_holds_what_opens_something(self) -> None:
        """By id, by digest, with scopes and project and expiry; revoked and expired keys are not in it."""
        now = datetime.now(UTC).timestamp()
        ring = self._ring()
        assert [key.id for key in ring] == sorted(ident for ident, one in self.known.items() if one.open(now))
        for key in ring:
            one = self.known[key.id]
            assert key.sha256 == hashlib.sha256(one.secret.encode()).hexdigest()
            assert (key.project, set(key.scopes), key.expires) == (one.project, one.scopes, one.expires)

    @invariant()
    def doors_open_as_the_model_says(self) -> None:
        """Now, in two days and in forty: the node judges expiry by its own clock, whatever the plan still holds."""
        ring = self._ring()
        today = datetime.now(UTC).timestamp()
        for now in (today, today + 2 * DAY, today + 40 * DAY):
            doors = Keyring(ring, clock=lambda now=now: now)  # type: ignore[misc]
            for one in self.known.values():
                for scope in SCOPES:
                    usable = one.open(now) and scope in one.scopes
                    assert doors.allows(one.secret, deployment(None, access="instance"), scope) is usable
                    own = usable and one.project in ("*", "default")
                    assert doors.allows(one.secret, deployment(None, access="project"), scope) is own

    @invariant()
    def no_secret_is_kept(self) -> None:
        """Not in lists, plans or the audit trail, and not in any file of the database."""
        with self.database.sessions() as session:
            kept = [row.sha256 for row in session.scalars(select(ApiKey))]
        assert all(re.fullmatch("[0-9a-f]{64}", each) for each in kept)
        told = [one.model_dump_json() for one in self.keys.all()] + [one.model_dump_json() for one in self._ring()]
        trail = Audit(self.database.sessions).listed(Window(1000), AuditFilter()).items
        told += [entry.model_dump_json() for entry in trail]
        assert len(trail) == self.actions
        files = [path.read_bytes() for path in self.folder.iterdir()]
        for one in self.known.values():
            secret = one.secret.split("_", 2)[2]
            assert not any(secret in text for text in told)
            assert not any(secret.encode() in data for data in files)

    def _ring(self) -> list[Key]:
        with self.database.sessions() as session:
            return keyring(session)

    def teardown(self) -> None:
        """Give everything back."""
        if hasattr(self, "folder"):
            self.database.close()
            shutil.rmtree(self.folder)


def test_keys_open_what_they_should_and_nothing_else() -> None:
    """In any order of creating, revoking, expiring and restarting."""
    # Not shrunk: the steps of a long story are short to read, and shrinking one takes minutes.
    unhurried = settings(
        derandomize=True,
        database=None,
        max_examples=15,
        stateful_step_count=20,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(KeyLives, settings=unhurried)


SECRET = format_key("abcd1234", "S" * 43)


@given(place=st.integers(0, len(SECRET) - 1), letter=st.sampled_from("abcXYZ019_-"))
@settings(derandomize=True, database=None, max_examples=300, deadline=None)
def test_a_typo_is_seen_without_asking_anybody(place: int, letter: str) -> None:
    """One wrong character anywhere breaks the form or the checksum, and no node knows the key."""
    assert whole(SECRET)
    typo = SECRET[:place] + letter + SECRET[place + 1 :]
    assert whole(typo) is (typo == SECRET)
    doors = Keyring([Key(id="abcd1234", sha256=hashlib.sha256(SECRET.encode()).hexdigest(), project="*", scopes=["predict"])])
    assert doors.allows(typo, deployment(None, access="instance"), "predict") is (typo == SECRET)


@pytest.mark.parametrize(
    "changed",
    [
        SECRET[:-1],
        SECRET + "0",
        SECRET.upper(),
        SECRET.replace("qdk_", "qdk-"),
        SECRET.replace("abcd", "abdc"),
        " " + SECRET,
        SECRET + "\n",
        SECRET.rpartition("_")[0],
        "",
    ],
)
def test_what_is_not_quite_a_key_is_none(changed: str) -> None:
    """Cut off, shouted, transposed, padded: neither its form nor its checksum holds, and it opens nothing."""
    assert not whole(changed)
    doors = Keyring([Key(id="abcd1234", sha256=hashlib.sha256(SECRET.encode()).hexdigest(), project="*", scopes=["predict"])])
    with pytest.raises(Unauthenticated):
        doors.find(changed)


@pytest.mark.parametrize(
    "given_",
    [
        {"name": ""},
        {"name": "n" * 201},
        {"project": "No Name"},
        {"project": "**"},
        {"scopes": []},
        {"scopes": ["mirror"]},
        {"scopes": ["everything"]},
        {"days": 0},
        {"days": -1},
        {"days": 3651},
        {"days": float("nan")},
        {"why": "w" * 2001},
        {"secret": "mine"},
    ],
    ids=json.dumps,
)
def test_impossible_keys_are_refused(given_: dict[str, object]) -> None:
    """Nobody makes a key without an owner, an end before its beginning, or the mirroring scope."""
    with pytest.raises(ValidationError):
        KeyInput.model_validate({"name": "notebook", **given_})


def test_a_new_key_opens_everything_for_ever_unless_said_otherwise() -> None:
    """The defaults of the form."""
    plain = KeyInput(name="notebook")
    assert (plain.project, plain.scopes, plain.days) == ("*", SCOPES, None)


@pytest.mark.parametrize(
    ("entry", "scopes"),
    [(console_entry("a" * 40), {"predict", "read"}), (mirror_entry("m" * 40), {"mirror"})],
    ids=["console", "mirror"],
)
@pytest.mark.parametrize("access", ["instance", "project"])
def test_internal_keys_open_their_own_doors_only(entry: Key, scopes: set[str], access: AccessMode) -> None:
    """The console predicts in every project and mirrors nowhere; the mirror's token mirrors and predicts nowhere."""
    secret = console_key("a" * 40) if entry.id == "console0" else "m" * 40
    doors, plan = Keyring([entry]), deployment(None, access=access, project="elsewhere")
    for scope in ("predict", "feedback", "read", "mirror"):
        if scope in scopes:
            assert doors.check(secret, plan, scope).meter.id == entry.id
        else:
            with pytest.raises(Forbidden):
                doors.check(secret, plan, scope)


def test_the_consoles_key_is_the_same_after_every_restart_and_another_for_another_token() -> None:
    """It is made from the admin token and has the form of every key, but is not that token."""
    one = console_key("a" * 40)
    assert one == console_key("a" * 40)
    assert one != console_key("b" * 40)
    assert whole(one)
    assert "a" * 8 not in one


def test_the_answer_that_carries_a_secret_hides_it_from_logs() -> None:
    """It is in the JSON that goes out once, and not in what Python prints."""
    made = NewKey(
        id="abcd1234",
        name="n",
        project="*",
        scopes=["read"],
        created=datetime.now(UTC),
        expires=None,
        revoked=None,
        rate=None,
        burst=None,
        last_used=None,
        replaces=None,
        secret=SECRET,
    )
    assert SECRET in made.model_dump_json()
    assert SECRET not in repr(made)
    assert SECRET not in str(made)
