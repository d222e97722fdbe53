"""The keyring: three access modes, projects, scopes, expiry."""

from __future__ import annotations

import pytest

from quarterdeck.api_keys import format_key
from quarterdeck.errors import Forbidden, QuarterdeckError, Unauthenticated
from quarterdeck.plan import DeploymentPlan
from quarterdeck_node.auth import Keyring
from tests.nodes import deployment, key

NOW = 1_000_000.0
KEYS = Keyring(
    [
        key("mine", "default"),
        key("other", "elsewhere"),
        key("all", "*"),
        key("old", "default", expires=NOW - 1),
        key("due", "default", expires=NOW),
        key("fresh", "default", expires=NOW + 1),
        key("reader", "default", ("read",)),
        key("mirror", "*", ("mirror",)),
    ],
    clock=lambda: NOW,
)


def plan(access: str) -> DeploymentPlan:
    """A deployment of project `default`."""
    return deployment(None, access=access)


@pytest.mark.parametrize(
    ("secret", "public", "instance", "project"),
    [
        ("", None, Unauthenticated, Unauthenticated),
        ("unknown", None, Unauthenticated, Unauthenticated),
        ("MINE", None, Unauthenticated, Unauthenticated),
        ("m\udcffne", None, Unauthenticated, Unauthenticated),
        ("mine", None, None, None),
        ("other", None, None, Forbidden),
        ("all", None, None, None),
        ("old", None, Unauthenticated, Unauthenticated),
        ("due", None, Unauthenticated, Unauthenticated),
        ("fresh", None, None, None),
        ("reader", None, Forbidden, Forbidden),
        ("mirror", None, Forbidden, Forbidden),
    ],
)
def test_who_may_predict(
    secret: str,
    public: type[QuarterdeckError] | None,
    instance: type[QuarterdeckError] | None,
    project: type[QuarterdeckError] | None,
) -> None:
    """Every kind of key at every kind of access."""
    for access, refusal in (("public", public), ("instance", instance), ("project", project)):
        assert KEYS.allows(secret, plan(access), "predict") is (refusal is None)
        if refusal is not None:
            with pytest.raises(refusal):
                KEYS.check(secret, plan(access), "predict")


@pytest.mark.parametrize("access", ["public", "instance", "project"])
def test_mirroring_needs_its_own_key_even_where_everybody_may_predict(access: str) -> None:
    """The challenger's door is never public."""
    assert KEYS.allows("mirror", plan(access), "mirror")
    assert not KEYS.allows("", plan(access), "mirror")
    assert not KEYS.allows("all", plan(access), "mirror")


def test_the_key_that_opened_is_told_by_its_id() -> None:
    """Records carry the id; a public deployment asks for none."""
    assert KEYS.check("mine", plan("project"), "predict").meter.id == "mine"
    assert KEYS.check("mine", plan("public"), "predict").meter.id == ""


def test_a_refusal_never_shows_the_secret() -> None:
    """Neither a wrong key nor an expired one is repeated."""
    with pytest.raises(Unauthenticated) as caught:
        KEYS.check("qdk_secret", plan("instance"), "predict")
    assert "qdk_secret" not in str(caught.value.problem())


def test_a_mistyped_key_is_told_from_a_foreign_one() -> None:
    """Both get 401; who lost a character on the way is told so, without a word about which keys exist."""
    foreign = format_key("abcd1234", "S" * 43)
    with pytest.raises(Unauthenticated) as unknown:
        KEYS.find(foreign)
    with pytest.raises(Unauthenticated) as mistyped:
        KEYS.find(foreign.replace("S", "T", 1))
    assert (unknown.value.code, mistyped.value.code) == ("unauthenticated", "key-mistyped")
