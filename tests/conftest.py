"""What holds for every test: the settings of whoever runs them are not there, and a slow machine fails nothing."""

from __future__ import annotations

import os

import pytest
from httpx._config import DEFAULT_TIMEOUT_CONFIG
from hypothesis import HealthCheck, settings

from tests.checkers import TYPES, begun
from tests.support import ROOT

# How long examples take says nothing about the code on a busy machine; and a suite should say the same twice.
settings.register_profile("house", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")

# A test's own questions, where they name no patience: a program that is given no processor for five seconds is not broken.
DEFAULT_TIMEOUT_CONFIG.connect = DEFAULT_TIMEOUT_CONFIG.read = DEFAULT_TIMEOUT_CONFIG.write = DEFAULT_TIMEOUT_CONFIG.pool = 60.0

for name in [name for name in os.environ if name.startswith("QUARTERDECK_")]:
    del os.environ[name]

# Models of the tests' own classes are loaded in processes that find `tests` from wherever they run, also with PYTHONSAFEPATH.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))


def pytest_collection_finish(session: pytest.Session) -> None:
    """The type checker takes minutes of a processor that most tests leave free: it begins with the first of them."""
    wanted = f"test_checker_is_clean[{' '.join(TYPES)}]"
    if not session.config.option.collectonly and any(item.name == wanted for item in session.items):
        begun(TYPES)
