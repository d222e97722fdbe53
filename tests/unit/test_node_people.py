"""People's tokens, limits and uses of keys at a node: checked without the deployer, bounded, and cheap where nobody uses them."""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, OKPKey

from quarterdeck.errors import Forbidden, TooMany, Unauthenticated
from quarterdeck.plan import AccessMode, Key, TokenIssuer
from quarterdeck_deployer.access import Caller
from quarterdeck_deployer.database import Database
from quarterdeck_deployer.issuing import Issuer
from quarterdeck_node import auth, people
from quarterdeck_node.auth import Keyring, Meter, Scope, digest_of
from quarterdeck_node.key_uses import MAX_KEYS, RECENT_SECONDS, KeyUses
from tests.nodes import deployment

NOW = 1_000_000.0
ANNA = Caller("anna@example.org", "developer", "session", frozenset({"default", "mine"}), "anna")
VIEWER = Caller("vic@example.org", "viewer", "session", frozenset({"default"}), "vic")
ADMIN = Caller("admin", "admin", "token", None)


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    """The deployer's own, at a fixed time."""
    return issuer_in(tmp_path / "ours.db", "local")


def issuer_in(file: Path, instance: str) -> Issuer:
    """An instance's, with a database of its own."""
    database = Database(file)
    database.migrate()
    return Issuer(database, "a" * 43, instance, lambda: NOW)


def ring(issuer: Issuer, now: float = NOW) -> Keyring:
    """What a node has of it."""
    return Keyring([], [issuer.public()], clock=lambda: now)


@pytest.mark.parametrize(
    ("caller", "access", "project", "scope", "allowed"),
    [
        (ANNA, "instance", "elsewhere", "predict", True),
        (ANNA, "project", "mine", "predict", True),
        (ANNA, "project", "elsewhere", "predict", False),
        (ANNA, "project", "mine", "feedback", True),
        (VIEWER, "instance", "default", "predict", True),
        (VIEWER, "instance", "default", "feedback", False),
        (VIEWER, "project", "mine", "read", False),
        (ADMIN, "project", "elsewhere", "predict", True),
        (ADMIN, "instance", "default", "mirror", False),
    ],
)
def test_a_token_opens_what_its_person_may(
    issuer: Issuer, caller: Caller, access: AccessMode, project: str, scope: Scope, allowed: bool
) -> None:
    """Instance: everybody who signed in; project: its people; viewers say nothing about the truth; nobody mirrors."""
    token = issuer.issue(caller, 5).token
    assert ring(issuer).allows(token, deployment(None, access=access, project=project), scope) is allowed


def test_a_token_ends_by_its_time(issuer: Issuer) -> None:
    """At the node's clock, also where it was good a moment ago."""
    token, clock = issuer.issue(ANNA, 1).token, [NOW]
    doors = Keyring([], [issuer.public()], clock=lambda: clock[0])
    plan = deployment(None, access="instance")
    assert doors.check(token, plan, "predict").meter.id == "person:anna"
    clock[0] += 60
    with pytest.raises(Unauthenticated, match="expired"):
        doors.check(token, plan, "predict")


def forged(**changed: object) -> dict[str, object]:
    """Claims as ours, but for some."""
    claims = {"iss": "urn:quarterdeck:local", "aud": "quarterdeck", "sub": "x", "role": "admin", "projects": "*", "exp": NOW + 60}
    return {**claims, **changed}


def test_forged_tokens_open_nothing(issuer: Issuer, tmp_path: Path) -> None:
    """Another key under our key's name, no signature, a shared secret made of our public key, other claims."""
    shown = issuer.public().keys[0]
    foreign = OKPKey.generate_key("Ed25519", {"kid": shown["kid"]}, private=True)
    shared = OctKey.import_key(shown["x"], {"kid": shown["kid"]})
    mine = issuer._keys()[0]
    ed = {"alg": "Ed25519", "kid": shown["kid"]}
    parts = ({"alg": "none"}, {**ed, "crit": 1}, forged())
    head, odd, body = (urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    attempts = [
        jwt.encode(ed, forged(), foreign, algorithms=["Ed25519"]),
        jwt.encode({"alg": "HS256", "kid": shown["kid"]}, forged(), shared, algorithms=["HS256"]),
        f"{head}.{body}.",
        f"{odd}.{body}.AAAA",
        *(
            jwt.encode(ed, claims, mine, algorithms=["Ed25519"])
            for claims in (forged(iss="urn:quarterdeck:other"), forged(aud="else"), forged(exp="soon"), forged(exp=None))
        ),
        "eyJ.eyJ.x",
        "eyJhbGciOiJFZDI1NTE5In0.e30.",
        "eyJ" + "a" * people.MAX_TOKEN + ".a.a",
    ]
    for token in attempts:
        with pytest.raises(Unauthenticated):
            ring(issuer).find(token)
    assert ring(issuer).find(jwt.encode(ed, forged(), mine, algorithms=["Ed25519"])).projects is None


def test_what_is_remembered_of_tokens_is_bounded(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many come: those who ask again are checked again."""
    monkeypatch.setattr(people, "MAX_VERIFIED", 3)
    monkeypatch.setattr(auth, "MAX_PASSED", 3)
    doors, plan = ring(issuer), deployment(None, access="instance")
    tokens = [issuer.issue(ANNA, 5).token for _ in range(8)]
    assert all(doors.allows(token, plan, "predict") for token in [*tokens, *tokens])
    assert doors._people is not None
    assert (len(doors._people._verified) <= 3, len(doors._passed) <= 3) == (True, True)


def test_two_issuers_may_open_one_node(issuer: Issuer, tmp_path: Path) -> None:
    """Each signs for itself."""
    other = issuer_in(tmp_path / "other.db", "other")
    both = Keyring([], [issuer.public(), other.public()], clock=lambda: NOW)
    for one in (issuer, other):
        assert both.find(one.issue(ANNA, 1).token).meter.id == "person:anna"
    crossed: TokenIssuer = issuer.public().model_copy(update={"keys": other.public().keys})
    with pytest.raises(Unauthenticated):
        Keyring([], [crossed], clock=lambda: NOW).find(other.issue(ANNA, 1).token)


def test_nodes_without_issuers_never_load_cryptography() -> None:
    """It takes memory and time that they should not pay for."""
    code = "import sys; from quarterdeck_node.auth import Keyring; Keyring(); print('joserfc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def limited(rate: float | None, burst: int = 1) -> Meter:
    """A fresh meter."""
    return Meter("k").limited(rate, burst)


def test_a_bucket_fills_by_the_clock() -> None:
    """Its burst at once, then its rate; the wait that it names is enough, and waiting longer gives no more than the burst."""
    meter = limited(0.5, 3)
    for _ in range(3):
        meter.enter(NOW)
    with pytest.raises(TooMany) as refused:
        meter.enter(NOW)
    assert (refused.value.status, refused.value.seconds) == (429, 2)
    meter.enter(NOW + refused.value.seconds)
    for _ in range(3):
        meter.enter(NOW + 1_000)
    with pytest.raises(TooMany):
        meter.enter(NOW + 1_000)
    assert (meter.requests, meter.last) == (7, NOW + 1_000)


def test_a_meter_outlives_its_keyring() -> None:
    """A new plan is no new allowance; a new limit counts at once; a key that was away begins afresh."""

    def keys(rate: float | None, burst: int = 2) -> list[Key]:
        return [Key(id="k", sha256=digest_of("s"), project="*", scopes=["predict"], rate=rate, burst=burst)]

    first = Keyring(keys(0.001))
    meter = first.find("s").meter
    for _ in range(2):
        meter.enter(NOW)
    second = Keyring(keys(0.001), meters=first.meters)
    with pytest.raises(TooMany):
        second.find("s").meter.enter(NOW)
    third = Keyring(keys(0.001, 3), meters=second.meters)
    third.find("s").meter.enter(NOW)
    with pytest.raises(TooMany):
        third.find("s").meter.enter(NOW)
    unlimited = Keyring(keys(None), meters=third.meters)
    for _ in range(100):
        unlimited.find("s").meter.enter(NOW)
    assert Keyring(keys(0.001), meters=Keyring([], meters=unlimited.meters).meters).find("s").meter.requests == 0


def test_uses_are_told_coarsely() -> None:
    """At most twice a minute, in Unix seconds, the last used first, and what was used long ago not any more."""
    clock = [100.0]
    uses = KeyUses(lambda: clock[0], lambda: clock[0] + NOW)
    meters = [Meter(f"k{number}") for number in range(MAX_KEYS + 5)]
    assert uses.of(meters) == []
    for number, meter in enumerate(meters):
        meter.enter(100.0 + number / 1_000)
    clock[0] = 110.0
    assert uses.of(meters) == []
    clock[0] = 131.0
    told = uses.of(meters)
    assert (len(told), told[0].id, told[0].requests) == (MAX_KEYS, f"k{MAX_KEYS + 4}", 1)
    assert abs(told[0].last - (NOW + 101.0)) < 0.2
    clock[0] += RECENT_SECONDS + 60
    assert uses.of(meters) == []


def test_nobody_counts_where_no_key_is_asked_for() -> None:
    """Public deployments have no limit of a key: whoever has one is let in without it."""
    doors = Keyring([Key(id="k", sha256=digest_of("s"), project="*", scopes=["predict"], rate=0.001, burst=1)])
    public = deployment(None, access="public")
    for _ in range(3):
        doors.check("s", public, "predict").meter.enter(NOW)
    with pytest.raises(Forbidden):
        doors.check("s", public, "mirror")
