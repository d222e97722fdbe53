"""The catalogue of pipelines: what is compiled answers as the original does, and refuses what that refuses."""

from __future__ import annotations

import pytest

from tools.pipeline_proof import ROWS, proof
from tools.pipelines import Pipeline, catalogue

NEVER = {"nearest-imputer", "iterative-imputer", "nearest-neighbours", "text-words", "own-function", "splines"}
"""Those that are served by Python. Everything else has to stay compiled."""


@pytest.mark.parametrize("one", catalogue(), ids=lambda one: one.name)
def test_a_pipeline_answers_as_the_original_does(one: Pipeline) -> None:
    """Labels alike and scores within 1e-9, on 10,000 rows and every edge value; or a reason that names the class."""
    found = proof(one.name)
    if one.name in NEVER:
        assert ": " in found.why_not
        return
    assert found.why_not == ""
    assert found.quarrels == ()
    assert found.rows + found.refused > ROWS > found.refused * 20
    assert found.labels_different == 0
    assert found.largest <= 1e-9


def test_the_catalogue_is_large_and_nearly_all_of_it_is_compiled() -> None:
    """At least 60 pipelines of all three tasks, 9 of 10 compiled."""
    pipelines = catalogue()
    assert len(pipelines) == len({one.name for one in pipelines}) >= 60
    assert {one.task for one in pipelines} == {"binary", "multiclass", "regression"}
    assert {one.name for one in pipelines} > NEVER
    assert len(NEVER) <= len(pipelines) / 10
