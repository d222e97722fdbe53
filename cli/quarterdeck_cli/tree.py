"""The status view: deployment → revision → role → node, each with its state in a word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text
from rich.tree import Tree

from quarterdeck_cli.output import ABSENT, UNKNOWN, short, span

Json = Mapping[str, Any]
ROLES = ("main", "target", "challenger", "previous")
_STYLES = {"yes": "green", "ready": "green", "failed": "red", "failing": "red", "unknown": "yellow"}
_MARKS = {"yes": "●", "ready": "●", "failed": "✕", "failing": "✕", "unknown": "?"}


def system(instance: Json, deployments: Sequence[Json]) -> Tree:
    """The whole system as a tree."""
    root = Tree(Text(f"{instance['name']}  {instance['console_url']}"), guide_style="dim")
    for each in deployments:
        add(root, each)
    if not deployments:
        root.add(Text("no deployments yet; make one with `quarterdeck apply -f FILE`"))
    return root


def line(found: Json) -> str:
    """One deployment in one line without ages, which is the same for as long as nothing changes."""
    seen = found["observed"]
    states = f"deployed {seen['deployed']['state']}  running {seen['running']['state']}"
    # The order is that of the tree; what is not there is left out, as there.
    placed = [f"{role} {seen[role]['ref']['model']} v{seen[role]['ref']['version']}" for role in ROLES if seen[role]]
    trouble = [f"refused: {problem['code']}" for problem in (seen["hold"] or seen["failure"],) if problem]
    return "  ".join([found["name"], f"revision {found['wish']['number']}", states, *placed, *trouble])


def add(root: Tree, found: Json) -> None:
    """Hang one deployment below `root`."""
    seen, wish = found["observed"], found["wish"]
    deployed, running = seen["deployed"], seen["running"]
    branch = root.add(
        Text.assemble(
            f"{found['name']}  deployed ",
            state(deployed["state"]),
            "  running ",
            state(running["state"]),
            f"  seen {span(running['age_seconds'])} ago",
        )
    )
    # A hold says the same at the end of the branch.
    waiting = "" if seen["applied"] or seen["hold"] else f"  not applied yet: {seen['waiting_for'] or 'waiting for the nodes'}"
    revision = branch.add(Text(f"revision {wish['number']}{waiting}"))
    # Target and previous exist only during and after a change; empty ones would be noise.
    for role in ROLES:
        placed = seen[role]
        if placed:
            _add_role(revision, role, placed)
        elif role == "main":
            revision.add(Text(f"main  {ABSENT}"))
    if failure := seen["failure"]:
        refused = (
            f"{failure['version']['model']} v{failure['version']['version']} refused on {failure['node']}: {failure['code']}"
        )
        branch.add(Text(f"✕ {refused}: {failure['reason']}", style="red"))
    if hold := seen["hold"]:
        branch.add(Text(f"on hold: {hold['code']}: {hold['reason']}", style="yellow"))


def _add_role(revision: Tree, role: str, placed: Json) -> None:
    ref = placed["ref"]
    branch = revision.add(
        Text(f"{role}  {ref['model']} v{ref['version']}  {short(ref['digest'])}  answered {placed['answered']}")
    )
    for node in placed["nodes"]:
        reason = f"  {node['code']}: {node['reason']}" if node["code"] else ""
        branch.add(Text.assemble(f"node {node['node']}  ", state(node["state"]), reason))
    # No node has spoken of it lately, which is not the same as being well.
    if not placed["nodes"]:
        branch.add(Text.assemble("node  ", state(UNKNOWN.strip("<>"))))


def state(name: str) -> Text:
    """A state's word with its mark; the mark says nothing that the word does not."""
    return Text(f"{_MARKS.get(name, '○')} {name}", style=_STYLES.get(name, ""))
