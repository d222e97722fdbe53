"""Fixtures of the tests that run the whole system."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local.system import LocalSystem
from tests.s3 import s3, s3_server

__all__ = ["s3", "s3_server", "system"]


@pytest.fixture
def system(tmp_path: Path) -> Iterator[LocalSystem]:
    """A system of its own for one test, in a folder that was empty."""
    with LocalSystem(tmp_path) as started:
        yield started
