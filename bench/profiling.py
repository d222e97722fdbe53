"""Where our node's time goes under load: py-spy samples serve's stacks while wrk posts records.

    make profile                                                  # single records at the plain door
    python -m bench.profiling --server quarterdeck-oip --work single --seconds 10

Prints shares of samples: by part (the file that the deepest Python frame is of: what C code takes counts for whoever called it),
then by function, alone and with everything below it.
"""

from __future__ import annotations

import argparse
import re
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from bench import processes, work, wrk
from bench.node import OURS, Quarterdeck
from bench.places import make_environments, python_of
from bench.servers import Cores, bodies, run_folder
from bench.tables import table
from bench.work import WORKS, Work

RATE = 250
_FRAME = re.compile(r"^(?P<function>.*) \((?P<file>[^()]*?)(?::\d+)?\)$")
_OWN = re.compile(r"(quarterdeck(?:_node)?/[^/].*)\.py$")
_WAITING = {("_worker", "thread"), ("wait", "threading")}
"""Threads of a pool that wait for work look busy to py-spy."""
_LIBRARY = re.compile(r"site-packages/([^/]+)")


class Profile(NamedTuple):
    """Shares of all samples, largest first: by part, by function alone, by function with everything below it."""

    samples: int
    parts: list[tuple[str, float]]
    alone: list[tuple[str, float]]
    inclusive: list[tuple[str, float]]


def read(raw: str) -> Profile:
    """A profile from py-spy's raw form: `frame;frame;… count`, outermost first."""
    parts: Counter[str] = Counter()
    alone: Counter[str] = Counter()
    inclusive: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [_frame(frame) for frame in stack.split(";")]
        function, part = frames[-1]
        if (function, part) in _WAITING:
            continue
        parts[part] += int(count)
        alone[f"{part} {function}"] += int(count)
        for name in {f"{place} {called}" for called, place in frames}:
            inclusive[name] += int(count)
    samples = parts.total()
    return Profile(samples, _shares(parts, samples), _shares(alone, samples), _shares(inclusive, samples))


def _frame(text: str) -> tuple[str, str]:
    """(function, part): our own files by their path, others' by their package."""
    found = _FRAME.match(text)
    if found is None:
        return text, "?"
    file = found["file"]
    own, library = _OWN.search(file), _LIBRARY.search(file)
    part = own[1] if own else library[1] if library else Path(file).stem
    return found["function"], part


def _shares(counts: Counter[str], samples: int) -> list[tuple[str, float]]:
    return [(name, count / samples) for name, count in counts.most_common()] if samples else []


def take(server: Quarterdeck, given: Work, connections: int, seconds: int, cores: Cores) -> Profile:
    """Load a server and sample its busiest process meanwhile.

    Raises:
        ChildProcessError: py-spy may not look at other processes here; run it as root, or allow it (ptrace_scope).
    """
    with run_folder("profile") as folder, server.started(given, cores) as running:
        target = server.targets[given]
        post = wrk.Post(
            running.url + target.path, work.body_file(target.form, given), len(bodies(target, given)), target.media, running.key
        )
        wrk.run(post, connections, 2, cores.load)
        words = wrk.command(post, connections, seconds + 3, cores.load)
        load = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        out = folder / "raw"
        spy = [python_of("base").parent / "py-spy", "record", "--rate", str(RATE), "--duration", str(seconds), "--format", "raw"]
        command = ["taskset", "-c", str(cores.load), *map(str, spy), "--full-filenames", "--output", str(out)]
        try:
            done = subprocess.run(
                [*command, "--pid", str(_busiest(running.measured))], capture_output=True, text=True, check=False
            )
        finally:
            load.terminate()
            load.wait()
        if done.returncode or not out.is_file():
            raise ChildProcessError(f"py-spy: {done.stderr.strip()[-400:]}")
        return read(out.read_text())


def _busiest(roots: Iterable[int]) -> int:
    everyone = [pid for root in roots for pid in processes.tree(root)]
    return max(everyone, key=processes.own_seconds)


def show(profile: Profile, parts: int = 20, functions: int = 25) -> str:
    """As Markdown."""
    kinds = [("part", profile.parts[:parts]), ("function, alone", profile.alone[:functions])]
    kinds.append(("function, with everything below it", profile.inclusive[:functions]))
    tables = [table([title, "share"], [[name, f"{share:.1%}"] for name, share in shares]) for title, shares in kinds]
    return f"{profile.samples} samples\n\n" + "\n\n".join(tables)


def main() -> None:
    """Profile and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="quarterdeck", choices=list(OURS))
    parser.add_argument("--work", default="single", choices=WORKS)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--raw", type=Path, help="a file of py-spy's raw form to read instead of measuring")
    options = parser.parse_args()
    if options.raw:
        print(show(read(options.raw.read_text())))
        return
    make_environments("base")
    work.make()
    print(show(take(OURS[options.server], options.work, options.connections, options.seconds, Cores())))


if __name__ == "__main__":
    main()
