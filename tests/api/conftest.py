"""Fixtures of the tests that speak to real servers on the loopback."""

from tests.postgres import each_database, postgres, postgres_server
from tests.s3 import s3, s3_server

__all__ = ["each_database", "postgres", "postgres_server", "s3", "s3_server"]
