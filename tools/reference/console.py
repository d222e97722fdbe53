"""The page about the console: each page and each form, with whom it is open to, from the routes themselves."""

from __future__ import annotations

import re

from fastapi.routing import iter_route_contexts

from quarterdeck_deployer.access import access_of
from quarterdeck_deployer.console.routes import router
from tools.reference.tables import first_line, table

CONSOLE = """\
# Console

Pages of the deployer for people, at the address that `quarterdeck up` or the chart prints. Each is whole without scripts;
scripts refresh states and copy texts. Who may: a role, and those above it (viewer, developer, approver, admin); forms for a
deployment also need its project. What somebody may not do is not offered to them. At the foot of each page stand the same
thing in the command line and its JSON.

"""


def routes() -> list[tuple[str, str, str]]:
    """(method, path, first sentence of what it does) of every page and every form, by path."""
    found = [
        (method, context.path or "", first_line(context.endpoint))
        for context in iter_route_contexts(router.routes)
        for method in sorted(context.methods or {"GET"})
        if context.path != "/static/{name}"
    ]
    return sorted(found, key=lambda one: (one[1], one[0]))


def page() -> str:
    """Pages first, then what their forms do."""
    parts = [CONSOLE]
    for title, what, wanted in (("Pages", "what it shows", "GET"), ("Forms", "what it does", "POST")):
        rows = [[f"`{path}`", words, _who(method, path)] for method, path, words in routes() if method == wanted]
        parts.append(f"## {title}\n\n{table(['path', what, 'who may'], rows)}\n")
    return "".join(parts).rstrip("\n") + "\n"


def _who(method: str, path: str) -> str:
    return str(access_of(method, re.sub(r"\{[^}]*\}", "1", path)))
