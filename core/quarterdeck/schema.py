"""What a model takes and gives: features by name and type, the task, the classes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

FeatureType = Literal["float", "int", "string", "boolean", "datetime"]
Task = Literal["binary", "multiclass", "regression"]
# bool beside int, and both beside float: pydantic picks the exact type, so true, 1 and 1.0 come back as they went in.
Label = str | int | float | bool
Scalar = float | int | str | bool | None
Row = dict[str, Scalar]
"""One record as it crosses a door: feature name → JSON scalar. Datetimes are ISO 8601 strings."""

# Those of a DNS label, so that every name can become a Kubernetes object, a host and a path without being rewritten.
NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
Name = Annotated[str, Field(pattern=NAME_PATTERN, description="Lower-case letters, digits and dashes; 1 to 63 of them.")]
"""Names of models, deployments, projects, services, nodes: no path, no escape, nothing to interpret."""


class Frozen(BaseModel):
    """Base of everything that crosses a process: immutable, and unknown members are an error."""

    # An unknown member is most often a mistyped one, or a newer program's: better refused than silently without effect.
    model_config = ConfigDict(frozen=True, extra="forbid")


class Camel(Frozen):
    """Base of resource parts: written in camelCase, read in Python's names too."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True)


class Feature(Frozen):
    """One input column."""

    name: Annotated[str, Field(min_length=1, max_length=256)]
    type: FeatureType
    nullable: bool = Field(False, description="Whether null is a legal value; NaN is read as null where it is, else refused.")
    categories: list[str] | None = Field(
        None, description="Categories seen in training; others are legal and reach the model as unseen."
    )
    minimum: float | None = Field(None, description="Smallest training value; documentation, not a limit.")
    maximum: float | None = Field(None, description="Largest training value; documentation, not a limit.")
    description: str = ""


class Schema(Frozen):
    """The contract of a model: rows bind to it by name, and nothing is coerced."""

    task: Task
    target: str = Field("target", description="Name of the predicted column.")
    classes: list[Label] = Field(
        default_factory=list, description="Class labels in the order of the scores; empty for regression."
    )
    positive: Label | None = Field(None, description="Binary only: the class that `score` speaks of.")
    features: Annotated[list[Feature], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Schema:
        names = [feature.name for feature in self.features]
        if len(set(names)) != len(names):
            raise ValueError("feature names must be unique")
        # By equality, as answers look them up: 1, 1.0 and True would be one class with two scores.
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("class labels must be unique")
        if self.task == "regression" and self.classes:
            raise ValueError("a regression has no classes")
        if self.task == "binary" and len(self.classes) != 2:
            raise ValueError("a binary task has exactly two classes")
        if self.task == "multiclass" and len(self.classes) < 3:
            raise ValueError("a multiclass task has three classes or more")
        if self.task == "binary" and self.positive not in self.classes:
            raise ValueError("positive must be one of the two classes")
        return self

    @property
    def names(self) -> list[str]:
        """Feature names in the model's column order."""
        return [feature.name for feature in self.features]


class Prediction(Frozen):
    """One answer: the label or number, and for classifiers the score of each class in `Schema.classes` order."""

    prediction: Label
    scores: list[float] = Field(default_factory=list)
