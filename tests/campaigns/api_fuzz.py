"""Whatever the OpenAPI document allows, and much that it does not, sent to a running deployer: no answer may be a server error.

    python -m tests.campaigns.api_fuzz --examples 500 --seed 7

Each answer is also held against the document: its status, its content type and its body.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from quarterdeck_deployer.api.document import CODES
from quarterdeck_deployer.api.problems import MEDIA_TYPE
from tests.deployer_world import ADMIN, NODE, World, world

Operation = APIOperation[Any, Any, Any, Any]
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
KNOWN: dict[str, list[Any]] = {
    "name": ["late", "early", "local", "staging"],
    "model": ["flights", "others"],
    "version": [1, 2],
    "action": ["late-1", "late-2"],
    "node": ["main", "challenger"],
    "stage": ["dev", "prod"],
    "deployment": ["late", "early"],
    "infrastructure": ["local", "edge"],
}
"""Words that lead to something: those made up at random would hardly ever find it."""
STORES = ["", "memory://fuzz", "a folder", "s4://somewhere"]
"""An infrastructure's store is tried out: what is made up must lead nowhere else on this machine."""


@contextmanager
def prepared(folder: Path) -> Iterator[World]:
    """A deployer with something of everything that paths name."""
    with world(folder) as here:
        for model in KNOWN["model"]:
            for version in KNOWN["version"]:
                here.register(version, model)
        yield here


def operations(here: World) -> list[Operation]:
    """All that the document names."""
    schema = schemathesis.openapi.from_dict(here.http.get("/openapi.json").json())
    # What it cannot read of the document raises here.
    return [cast(Any, found).ok() for found in schema.get_all_operations()]


def fuzz(here: World, operation: Operation, examples: int, number: int | None = None) -> Counter[int]:
    """Send so many requests of one operation; how often each status came.

    Args:
        here: the deployer.
        operation: of its document.
        examples: how many.
        number: seed; the same requests each time where it is None.

    Raises:
        AssertionError: an answer was a server error, or is not as the document says; names the request.
    """
    counted: Counter[int] = Counter()
    _fill(here)

    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=number is None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(), data=st.data())
    def run(case: Case[Any], data: st.DataObject) -> None:
        _lead(case, data)
        token = NODE if case.path.startswith(("/plans", "/nodes")) else ADMIN
        headers = {"authorization": f"Bearer {token}"}
        answer = case.call(base_url=str(here.http.base_url), headers=headers, timeout=60, allow_redirects=False)
        counted[answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)
        if MEDIA_TYPE in answer.headers.get("content-type", []):
            code, named = answer.json()["code"], operation.definition.raw[CODES]
            assert code in named, f"{operation.label} answered {code}, which its document does not name: {answer.text}"

    (run if number is None else seed(number)(run))()
    return counted


def _fill(here: World) -> None:
    """What other operations have taken away."""
    for name in KNOWN["deployment"]:
        body = {"main": {"model": "flights", "version": 1}, "challenger": {"model": "flights", "version": 2}}
        here.http.put(f"/api/deployments/{name}", json=body).raise_for_status()


def _lead(case: Case[Any], data: st.DataObject) -> None:
    """Most of the words lead to what is there, most requests are sent without conditions, and nobody waits."""
    for words in (case.path_parameters, case.body):
        if isinstance(words, dict):
            for name in words:
                if name in KNOWN and data.draw(st.integers(0, 3)):
                    words[name] = data.draw(st.sampled_from(KNOWN[name]))
    if isinstance(case.body, dict) and "store" in case.body:
        case.body["store"] = data.draw(st.sampled_from(STORES))
    for told, name in ((case.headers, "if-match"), (case.query, "after")):
        if name in (told or {}) and data.draw(st.integers(0, 3)):
            del told[name]
    if "wait" in (case.query or {}):
        case.query["wait"] = 0


def main() -> None:
    """Run with arguments and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="only operations whose path holds this")
    asked = parser.parse_args()
    total: Counter[int] = Counter()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, prepared(Path(folder)) as here:
        for operation in operations(here):
            if asked.only in operation.path:
                counted = fuzz(here, operation, asked.examples, asked.seed)
                print(f"{operation.label}: {dict(sorted(counted.items()))}", flush=True)
                total += counted
    print(f"seed {asked.seed}: {total.total()} requests in {time.monotonic() - begun:.0f} s: {dict(sorted(total.items()))}")


if __name__ == "__main__":
    main()
