"""Answers as JSON text, written from templates that are prepared once per version.

Most of what an answer says is the same for every row of a class: the label, the names of the classes, the punctuation. Only the
scores differ, and one call writes all of those; dictionaries per row would cost more than the model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from pydantic_core import to_json

from quarterdeck.errors import ModelFailed
from quarterdeck.records import Answer
from quarterdeck.schema import Label, Schema


def label_text(label: Label) -> str:
    """A class label as the name of a JSON member."""
    return label if isinstance(label, str) else to_json(label).decode()


class Writer:
    """Writes the answers of one version.

    Args:
        schema: its classes name the scores, in their order.
    """

    def __init__(self, schema: Schema) -> None:
        self.classes = schema.classes
        self._width = len(schema.classes) or 1
        names = [_literal(to_json(label_text(label))) for label in schema.classes]
        labels = [_literal(to_json(label)) for label in schema.classes]
        scores = b",".join(name + b":%b" for name in names)
        holes = b",".join([b"%b"] * len(names))
        self._plain = [b'{"prediction":' + label + b',"scores":{' + scores + b"}}" for label in labels] or [b'{"prediction":%b}']
        self._kept = [b"[" + label + b",[" + holes + b"]]" for label in labels] or [b"[%b,[]]"]

    def one(self, scores: Sequence[float]) -> Answers:
        """The answer of one row from its scores; of a regression, its number.

        Raises:
            ModelFailed: a score is not finite, or there are too many or too few.
        """
        texts = to_json(scores)[1:-1].split(b",")
        if len(texts) != self._width:
            raise _not_as_promised(len(texts), self._width)
        # The sum of finite numbers may overflow, but a number that is not finite always shows in it.
        if not math.isfinite(sum(scores)) and not all(map(math.isfinite, scores)):
            raise _not_finite()
        return Answers(self, [scores.index(max(scores)) if self.classes else 0], tuple(texts))

    def many(self, scores: np.ndarray[Any, Any]) -> Answers:
        """The answers of many rows.

        Args:
            scores: float64, one row each, one column per class; of a regression, one column.

        Raises:
            ModelFailed: as `one`.
        """
        if scores.shape[1] != self._width:
            raise _not_as_promised(scores.shape[1], self._width)
        if not np.isfinite(scores).all():
            raise _not_finite()
        texts = tuple(to_json(scores.ravel().tolist())[1:-1].split(b","))
        picks = scores.argmax(axis=1).tolist() if self.classes else [0] * len(scores)
        found = Answers(self, picks, texts)
        found.scores = scores
        return found

    def plain(self, picks: Sequence[int], texts: tuple[bytes, ...]) -> bytes:
        """`{"prediction": …, "scores": {…}}` of each row, with commas between."""
        if len(picks) == 1:
            return self._plain[picks[0]] % texts
        return b",".join([self._plain[pick] for pick in picks]) % texts

    def kept(self, picks: Sequence[int], texts: tuple[bytes, ...]) -> bytes:
        """`[[prediction, [scores…]], …]`, as records keep it."""
        if len(picks) == 1:
            return b"[" + self._kept[picks[0]] % texts + b"]"
        return b"[" + b",".join([self._kept[pick] for pick in picks]) % texts + b"]"


class Answers:
    """The answers of some rows, as text where a template wrote them, as `Answer` for whoever asks."""

    __slots__ = ("_listed", "_picks", "_texts", "_writer", "scores")

    def __init__(
        self, writer: Writer, picks: Sequence[int], texts: tuple[bytes, ...], listed: list[Answer] | None = None
    ) -> None:
        self._writer, self._picks, self._texts, self._listed = writer, picks, texts, listed
        self.scores: np.ndarray[Any, Any] | None = None

    @classmethod
    def listed(cls, writer: Writer, answers: list[Answer]) -> Answers:
        """Answers of a model that gives them one by one."""
        return cls(writer, (), (), answers)

    def all(self) -> list[Answer]:
        """One answer per row."""
        if self._listed is None:
            numbers: list[float] = [float(text) for text in self._texts]
            classes, width = self._writer.classes, len(self._writer.classes)
            if classes:
                cut = [numbers[at : at + width] for at in range(0, len(numbers), width)]
                self._listed = [Answer(classes[pick], scores) for pick, scores in zip(self._picks, cut, strict=True)]
            else:
                self._listed = [Answer(number, []) for number in numbers]
        return self._listed

    def labels(self) -> Sequence[Label]:
        """The prediction of each row."""
        if self._listed is None and self._writer.classes:
            return [self._writer.classes[pick] for pick in self._picks]
        return [answer.prediction for answer in self.all()]

    @property
    def picks(self) -> Sequence[int] | None:
        """The place of each row's prediction among the classes; None where there are none, or it is not known."""
        return self._picks if self._listed is None and self._writer.classes else None

    def array(self) -> np.ndarray[Any, Any]:
        """The scores of all rows, or the numbers of a regression, as float64, one row each."""
        if self.scores is None:
            self.scores = np.array([_figures(answer) for answer in self.all()], np.float64)
        return self.scores

    def numbers(self) -> bytes:
        """The scores of all rows, or the numbers of a regression, row by row: JSON texts with commas between."""
        if self._listed is None:
            return b",".join(self._texts)
        return to_json([figure for answer in self._listed for figure in _figures(answer)])[1:-1]

    def plain(self) -> bytes:
        """As plain records show them, with commas between."""
        if self._listed is None:
            return self._writer.plain(self._picks, self._texts)
        return to_json(plain_answers(self._writer.classes, self._listed))[1:-1]

    def kept(self) -> bytes:
        """As records keep them: the JSON text of `[[prediction, [scores…]], …]`."""
        return self._writer.kept(self._picks, self._texts) if self._listed is None else to_json(self._listed)


def plain_answers(classes: list[Label], answers: Iterable[Answer]) -> list[dict[str, Any]]:
    """Answers as plain records show them."""
    return [plain_answer(classes, answer) for answer in answers]


def plain_answer(classes: list[Label], answer: Answer) -> dict[str, Any]:
    """One answer as plain records show it."""
    if not classes:
        return {"prediction": answer.prediction}
    scores = {label_text(label): score for label, score in zip(classes, answer.scores, strict=True)} if answer.scores else {}
    return {"prediction": answer.prediction, "scores": scores}


def _figures(answer: Answer) -> Sequence[Any]:
    """The scores, or the number of a regression."""
    return answer.scores or [answer.prediction]


def _literal(text: bytes) -> bytes:
    # A label may hold the very sign that templates are filled in at.
    return text.replace(b"%", b"%%")


def _not_finite() -> ModelFailed:
    return ModelFailed(
        "The model answered a number that is not finite.", hint="Look at the row that was sent, then at the model."
    )


def _not_as_promised(given: int, width: int) -> ModelFailed:
    return ModelFailed(
        f"The model answered {given} scores for {width} classes.", hint="Build the package again from the fitted model."
    )
