"""Alembic's entry: runs the migrations on the connection that the program has opened."""

from __future__ import annotations

from alembic import context

# The caller's connection and its transaction: all or nothing of a migration is kept.
context.configure(connection=context.config.attributes["connection"], render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
