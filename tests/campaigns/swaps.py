"""Swaps and rollbacks of main under load: no request is lost, and every answer tells rightly who computed it.

    python -m tests.campaigns.swaps --count 1000

The models answer their own version number, so a value tells which model computed it. Exit status 1 on any miss.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from quarterdeck.client import Client, Done
from tests.campaigns.load import Answer, Load, Tally
from tests.local.system import LocalSystem
from tests.models import version_encoding_model

NAME = "versions"
CONNECTIONS = 8
MINUTES = 60


class Outcome:
    """What a run has shown; `misses` must be empty."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.misses: list[str] = []
        self.tally = Tally()

    def figures(self) -> str:
        """The figures, one a line."""
        answers = self.tally.answers
        mixed = sum(1 for answer in answers if len(set(answer.values)) > 1)
        rows = sum(len(answer.values) for answer in answers)
        slices = sorted(self.seconds)
        return "\n".join(
            [
                f"swaps and rollbacks      {len(self.seconds)}",
                f"requests answered        {len(answers)} over {CONNECTIONS} connections, {rows} rows",
                f"requests lost            {self.tally.unanswered.total() + self.tally.refused.total()}",
                f"mixed batches            {mixed}",
                f"versions seen            {sorted({answer.version for answer in answers})}",
                f"call to observed         median {statistics.median(slices):.3f} s, p99 {slices[int(len(slices) * 0.99)]:.3f} s",
                f"misses                   {len(self.misses)}",
            ]
        )


def run(folder: Path, count: int) -> Outcome:
    """Change main `count` times under load and check every answer."""
    outcome = Outcome()
    deadline = time.monotonic() + 60 * MINUTES
    with LocalSystem(folder) as system, system.client() as client:
        one, two = (system.publish(version_encoding_model(version, name=NAME)) for version in (1, 2))
        system.deploy(NAME, one, two)
        with Load(system.main_url, NAME, CONNECTIONS) as load:
            for number in range(count):
                if time.monotonic() > deadline:
                    outcome.misses.append(f"only {number} changes in {MINUTES} minutes")
                    break
                _change(client, outcome, client.rollback if number % 2 else client.swap, 1 if number % 2 else 2)
        outcome.tally = load.total()
        _check(outcome, client, {ref.version: ref.digest for ref in (one, two)})
    return outcome


def _change(client: Client, outcome: Outcome, act: Callable[..., Done], expected: int) -> None:
    start = time.monotonic()
    done = act(NAME, wait=60)
    outcome.seconds.append(time.monotonic() - start)
    if not (done["applied"] and done["changed"]):
        outcome.misses.append(f"revision {done['revision']} was not applied: {done['note']}")
    # What is admitted after the change was observed must be answered by the new version.
    seen = client.predict(NAME, [{"number": 0.0}])["version"]
    if seen != expected:
        outcome.misses.append(f"after revision {done['revision']} v{seen} answered instead of v{expected}")


def _check(outcome: Outcome, client: Client, digests: dict[int, str]) -> None:
    tally = outcome.tally
    outcome.misses += tally.wrong
    outcome.misses += [f"{count} requests without an answer: {kind}" for kind, count in tally.unanswered.items()]
    outcome.misses += [f"{count} requests refused with {status}" for status, count in tally.refused.items()]
    wanted = {each["number"]: (each["main"]["version"], each["main"]["digest"]) for each in client.revisions(NAME)}
    outcome.misses += [wrong for answer in tally.answers if (wrong := _wrong(answer, digests, wanted))]
    if not tally.answers:
        outcome.misses.append("nothing was answered")


def _wrong(answer: Answer, digests: dict[int, str], wanted: dict[int, tuple[int, str]]) -> str:
    if set(answer.values) != {float(answer.version)}:
        return f"{answer.request_id}: v{answer.version} is said to have answered {sorted(set(answer.values))}"
    if answer.digest != digests[answer.version]:
        return f"{answer.request_id}: v{answer.version} with another digest"
    if wanted.get(answer.revision) != (answer.version, answer.digest):
        return f"{answer.request_id}: revision {answer.revision} wants another main than v{answer.version}"
    return ""


def main() -> int:
    """Run it, print the figures; 1 on any miss."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="how often main is changed")
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(Path(folder), parser.parse_args().count)
    print(outcome.figures())
    print("\n".join(outcome.misses[:20]), file=sys.stderr)
    return 1 if outcome.misses else 0


if __name__ == "__main__":
    sys.exit(main())
