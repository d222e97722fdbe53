"""Changes on the real cluster under load: no request is lost, every answer names rightly who computed it, and how long it takes.

    python -m tests.campaigns.cluster_rollouts --in-place 200 --rolling 20 --flips 200 --older 10 --moves 2

CLUSTER=as-is takes the cluster of the tests as it runs (with CLUSTER_NAME=try that of `make cluster-up`); otherwise it is
started, and ended afterwards. Each figure is of one deployment in a namespace of its own, asked by a pod over its Service. Exit
status 1 on any miss; seconds only inform.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.campaigns.cluster_subject import Site, Subject
from tests.cluster.installation import Installation
from tests.cluster.layout import Layout
from tests.cluster.load import Load, Tally
from tests.cluster.node import Node

VERSIONS = 40
"""Made for changes in place; then the first ones come again, which no pod has in its memory any more."""
PAUSE_SECONDS = 0.3
"""Between two flips: each revision is to have answered requests before it goes."""


@dataclass
class Outcome:
    """What one part has shown; `misses` must be empty."""

    title: str
    seconds: dict[str, list[float]] = field(default_factory=dict)
    misses: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)

    def took(self, what: str, seconds: float) -> None:
        """Note how long something took."""
        self.seconds.setdefault(what, []).append(seconds)

    def end(self, subject: Subject, load: Load) -> None:
        """End the load: every request was answered, by the version, the bytes and the revision that its answer names."""
        try:
            subject.drained()
        except AssertionError as error:
            self.misses.append(f"pods that should end: {error}")
        self.tally = tally = load.end()
        self.misses += tally.why or [f"{tally.lost} lost"] * bool(tally.lost)
        if tally.answered == 0:
            self.misses.append("nothing was answered")
        answered: dict[int, int] = {}
        for each in tally.answers:
            if each.values != f"{each.version}.0":
                self.misses.append(f"v{each.version} is said to have answered {each.values}")
            # A revision names one version for ever.
            if answered.setdefault(each.revision, each.version) != each.version:
                self.misses.append(f"revision {each.revision} answered with v{answered[each.revision]} and v{each.version}")
        for version, digests in tally.digests.items():
            if digests != [subject.site.refs[version - 1].digest]:
                self.misses.append(f"v{version} is said to be {digests}")

    def figures(self) -> str:
        """The figures, one a line."""
        latency = {name: f"{1000 * seconds:.0f} ms" for name, seconds in self.tally.latency.items()}
        counts = f"{self.tally.answered} requests answered, {self.tally.lost} lost, {len(self.misses)} misses"
        lines = [f"{self.title}: {counts}, {latency}"]
        for what, seconds in self.seconds.items():
            ordered = sorted(seconds)
            p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
            spread = f"p50 {statistics.median(ordered):.2f} s, p99 {p99:.2f} s, max {ordered[-1]:.2f} s"
            lines.append(f"  {what:<76} {len(ordered):>4} times: {spread}")
        return "\n".join(lines)


@contextmanager
def under_load(
    site: Site, outcome: Outcome, replicas: int, version: int, *, challenger: bool = False, rate: float = 10.0
) -> Iterator[Subject]:
    """A deployment that is changed within the block; what does not come about there ends it, and is a miss."""
    with site.subject(replicas, challenger=challenger, version=version) as subject, subject.load(rate) as load:
        try:
            yield subject
        except AssertionError as error:
            outcome.misses.append(f"a change did not come about: {error}")
        outcome.end(subject, load)


def in_place(site: Site, replicas: int, count: int) -> Outcome:
    """`kubectl apply` of another version for main and for the challenger at once; no pod may start."""
    outcome = Outcome(f"in place, {replicas} main + 1 challenger")
    refs = [ref.version for ref in site.publish(min(2 * count + 2, VERSIONS))]
    turns = len(refs) // 2
    with under_load(site, outcome, replicas, refs[0], challenger=True) as subject:
        before = subject.uids()
        for number in range(1, count + 1):
            main, challenger = refs[2 * (number % turns)], refs[2 * (number % turns) + 1]
            start = time.time()
            subject.wish(model=main, challenger=challenger)
            arrived = subject.arrived(main, challenger)
            what = "that no pod has seen" if number < turns else "that was unloaded long ago"
            outcome.took(f"kubectl apply to every pod serving a version {what}", arrived - start)
        if subject.uids() != before:
            outcome.misses.append("pods were started")
    return outcome


def flips(site: Site, replicas: int, count: int) -> Outcome:
    """Back to the version before, which is resident, again and again; by one call of the API."""
    outcome = Outcome(f"rollbacks, {replicas} main")
    one, two = (ref.version for ref in site.publish(2))
    starts: dict[int, float] = {}
    with under_load(site, outcome, replicas, one, rate=20.0) as subject:
        subject.wish(model=two)
        subject.arrived(two)
        for number in range(count):
            time.sleep(PAUSE_SECONDS)
            left = subject.revision()
            wanted = two if number % 2 else one
            starts[left] = subject.patch(model=wanted)
            outcome.took("API call to every pod serving the version before", subject.arrived(wanted) - starts[left])
    for left, start in starts.items():
        last = max((each.last for each in outcome.tally.answers if each.revision == left), default=0.0)
        outcome.took("API call to the last request admitted to the old one", max(0.0, last - start))
    return outcome


def older(site: Site, replicas: int, count: int) -> Outcome:
    """Back to a version that is not resident any more: first one whose package is on the pods' disks, then one that is not."""
    outcome = Outcome(f"older revisions, {replicas} main")
    refs = [ref.version for ref in site.publish(5)]
    with under_load(site, outcome, replicas, refs[0]) as subject:
        for number in range(count):
            for version in refs[1:]:
                subject.wish(model=version)
                subject.arrived(version)
            start = time.time()
            subject.wish(model=refs[0])
            outcome.took("kubectl apply to every pod, package cached", subject.arrived(refs[0]) - start)
            subject.roll(number)
            start = time.time()
            # Two before: neither what was active, nor the version before.
            subject.wish(model=refs[2])
            outcome.took("kubectl apply to every pod, package fetched", subject.arrived(refs[2]) - start)
    return outcome


def rolling(site: Site, replicas: int, count: int) -> Outcome:
    """Another environment and other resources, in turn: every pod is replaced."""
    outcome = Outcome(f"rolling, {replicas} main")
    (ref,) = site.publish(1)
    with under_load(site, outcome, replicas, ref.version) as subject:
        for number in range(count):
            outcome.took("kubectl apply to every pod replaced", subject.roll(number))
    return outcome


def moves(site: Site, count: int) -> Outcome:
    """More and fewer pods, a pod deleted, every pod evicted in turn, and `kubectl drain` of the machine that they are on."""
    outcome = Outcome("scaling 1-3-1, deleted pods, evicted pods, drains")
    (ref,) = site.publish(1)
    with under_load(site, outcome, 1, ref.version) as subject:
        for _ in range(count):
            outcome.took("from 1 to 3", _timed(lambda: subject.scale(3)))
            outcome.took("one of 3 deleted, until another is ready", _timed(subject.delete_pod))
            outcome.took("all 3 evicted, as the budget lets them", _timed(subject.evict_all))
            outcome.took("kubectl drain of all 3, until others are ready", _timed(subject.drain))
            outcome.took("from 3 to 1", _timed(lambda: subject.scale(1)))
    return outcome


def alone(site: Site, count: int) -> Outcome:
    """The only pod is deleted: it answers on while it drains, and another must be ready by then."""
    outcome = Outcome("the only pod deleted")
    (ref,) = site.publish(1)
    with under_load(site, outcome, 1, ref.version) as subject:
        for _ in range(count):
            outcome.took("kubectl delete pod until another is ready", _timed(subject.delete_pod))
    return outcome


def _timed(work: Callable[[], object]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


@contextmanager
def installed() -> Iterator[Installation]:
    """The tests' cluster: as it is, or our own for as long as the block lasts."""
    installation = Installation(Node(Layout.of("try" if os.environ.get("CLUSTER_NAME") == "try" else "test")))
    if os.environ.get("CLUSTER") == "as-is":
        installation.adopt()
        yield installation
        return
    try:
        installation.node.start()
        installation.install()
        yield installation
    finally:
        installation.node.stop()


def parts(site: Site, told: argparse.Namespace) -> Iterator[Outcome]:
    """All parts that the command line asks for, one after the other."""
    counted: Sequence[tuple[Callable[[Site, int, int], Outcome], int]]
    counted = ((in_place, told.in_place), (flips, told.flips), (older, told.older), (rolling, told.rolling))
    for part, count in counted:
        # One pod has nothing to wait for; three may be told at different times.
        for replicas in told.replicas if count else ():
            yield part(site, replicas, count)
    if told.moves:
        yield moves(site, told.moves)
        yield alone(site, told.moves)


def main() -> int:
    """Run what is asked for, print the figures as they come; 1 on any miss."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, what in (
        ("in-place", "new versions, with each number of replicas"),
        ("flips", "rollbacks, with each number of replicas"),
        ("older", "returns to older versions, with each number of replicas"),
        ("rolling", "replacements of all pods, with each number of replicas"),
        ("moves", "rounds of scaling, deleting, evicting, draining"),
    ):
        parser.add_argument(f"--{name}", type=int, default=0, help=what)
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 3], help="of main")
    missed = False
    with installed() as installation:
        for outcome in parts(Site(installation), parser.parse_args()):
            print(outcome.figures(), flush=True)
            print("\n".join(outcome.misses[:20]), file=sys.stderr, flush=True)
            missed = missed or bool(outcome.misses)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
