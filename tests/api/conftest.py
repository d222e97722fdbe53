"""Fixtures of the tests that speak to real servers on the loopback."""

from tests.s3 import s3, s3_server

__all__ = ["s3", "s3_server"]
