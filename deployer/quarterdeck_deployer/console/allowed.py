"""What pages offer to whom: a form that would be refused is not shown, and a sentence names the role that it takes."""

from __future__ import annotations

from quarterdeck_deployer.access import access_of
from quarterdeck_deployer.sessions import asking


def offered(path: str, project: str | None = None) -> bool:
    """Whether whoever asks may send the form of a path; `project` is that of the deployment which it changes."""
    caller = asking.get()
    return caller.may(access_of("POST", path) or "admin") and (project is None or caller.changes(project))


def looked_at(path: str) -> bool:
    """Whether whoever asks may open a page."""
    return asking.get().may(access_of("GET", path) or "admin")


def needed(path: str, project: str | None = None) -> str:
    """The sentence in place of a form that is not offered."""
    caller, access = asking.get(), access_of("POST", path) or "admin"
    if not caller.may(access):
        return f"Changing this needs the role {access}; yours is {caller.role or 'none'}."
    return f"Only people of project {project} may change this." if project is not None else ""
