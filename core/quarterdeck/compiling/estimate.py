"""From a fitted model to a program: the whole of what is compiled, or the reason why it is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quarterdeck.compiled.program import Apply, Check, Linear, Link, Lookup, Mean, OneHot, Program, Step, Take, Trees, inputs_of

# Imported for their entries in the registry.
from quarterdeck.compiling import ensembles, linear, trees  # noqa: F401
from quarterdeck.compiling.draft import Column, Draft, NotCompilable
from quarterdeck.compiling.registry import NUDGE, scores
from quarterdeck.compiling.transform import input_columns
from quarterdeck.frames import Columns
from quarterdeck.schema import Schema


def estimate(estimator: Any, columns: Sequence[Column], draft: Draft) -> int:
    """Append a fitted estimator's steps to a draft.

    Args:
        estimator: of scikit-learn's interface, or a LightGBM Booster.
        columns: what it takes.
        draft: where the steps go.

    Returns:
        The place of the step with the scores: width 1 for a regressor, else one column per class in `classes_` order.

    Raises:
        NotCompilable: names the class, and says why.
    """
    return scores(estimator, columns, draft)


def compile_model(model: Any, schema: Schema, columns: Columns) -> tuple[Program, dict[str, bytes]]:
    """A fitted model as a program, whose highest score is that of the class that the model itself would answer.

    Args:
        model: what was fitted, with its preprocessing.
        schema: features, task and classes.
        columns: the columns of the training data.

    Returns:
        The program, and the model texts that it names, by file name.

    Raises:
        NotCompilable: a part of the model has no compiled form.
    """
    draft = Draft(schema)
    place = _guarded(draft, estimate(model, input_columns(draft, columns), draft))
    if draft.widths[place] != max(1, len(schema.classes)):
        raise NotCompilable(f"{type(model).__name__}: it has {draft.widths[place]} outputs")
    steps = _needed(draft.steps, place)
    files = {step.file: draft.files[step.file] for step in steps if isinstance(step, Trees)}
    return Program(steps=steps, explain=_explained(steps)), files


def _needed(steps: Sequence[Step], last: int) -> list[Step]:
    """The steps that one of them is made from, and each of them once; itself the last."""
    wanted = _used(steps, last)
    found: list[Step] = []
    places: dict[int, int] = {}
    known: dict[str, int] = {}
    for place in sorted(wanted):
        step = _moved(steps[place], places)
        # Members of an ensemble often begin with the very same steps.
        places[place] = known.setdefault(step.model_dump_json(), len(found))
        if places[place] == len(found):
            found.append(step)
    return found


def _guarded(draft: Draft, last: int) -> int:
    """The scores, refused where a step refuses of which nothing is used: an encoder whose columns were all left out, say."""
    used, width = _used(draft.steps, last), draft.widths[last]
    dead = [place for place, step in enumerate(draft.steps[:last]) if place not in used and _refuses(step)]
    if not dead:
        return last
    # What they say counts with weight 0; `isnan`, for infinities times 0 would be something.
    read = [draft.add(Take(parts=[(place, 0)] * width), width) for place in dead]
    flags = [draft.add(Apply(input=place, function="isnan"), width) for place in read]
    return draft.add(Mean(inputs=[last, *flags], weights=[1.0, *[0.0] * len(flags)]), width)


def _used(steps: Sequence[Step], last: int) -> set[int]:
    """The steps that one of them is made from, and itself."""
    found = {last}
    for place in range(last, -1, -1):
        if place in found:
            found.update(inputs_of(steps[place]))
    return found


def _refuses(step: Step) -> bool:
    """Whether there are values that the step takes offence at."""
    if isinstance(step, (Lookup, OneHot)):
        return step.unseen is None or step.missing is None
    return isinstance(step, Check)


def _moved(step: Step, places: dict[int, int]) -> Step:
    """The step, reading its inputs where they are now."""
    if isinstance(step, Take):
        return step.model_copy(update={"parts": [(places[place], column) for place, column in step.parts]})
    if isinstance(step, Mean):
        return step.model_copy(update={"inputs": [places[place] for place in step.inputs]})
    read = getattr(step, "input", None)
    return step if read is None else step.model_copy(update={"input": places[read]})


def _explained(steps: Sequence[Step]) -> int | None:
    """The one step whose contributions add up to the raw score: what the links at the end are applied to."""
    place = len(steps) - 1
    while (inner := _behind(steps[place])) is not None:
        place = inner
    models = [step for step in steps if isinstance(step, (Trees, Linear))]
    return place if isinstance(steps[place], (Trees, Linear)) and len(models) == 1 else None


def _behind(step: Step) -> int | None:
    """What a link is applied to, or scores are made to lean from."""
    if isinstance(step, Mean) and step.weights[1:] == [NUDGE]:
        return step.inputs[0]
    return step.input if isinstance(step, Link) else None
