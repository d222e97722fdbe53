"""A compiled model as data: a list of steps from features to scores. No code is stored, and none of it is ever unpickled.

Each step is one block of float64 columns, computed for every row from features or from the blocks of earlier steps, which it
names by their place in the list. The arithmetic of a step is that of the transformer it was made from, operation by operation:
a tree that comes after it compares with thresholds, so the last bit counts.

Null arrives as NaN in numbers. What a model would have refused (NaN or infinity where it takes none, an unseen category) is
refused by the step that says so, never answered.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from quarterdeck.schema import Frozen, Scalar

PROGRAM_FILE = "program.json"
Place = Annotated[int, Field(ge=0, description="An earlier step, by its place in the list.")]
Function = Literal[
    "abs", "cbrt", "ceil", "cos", "exp", "expm1", "floor", "isnan", "log", "log10", "log1p", "log2", "negative", "reciprocal",
    "rint", "sign", "sin", "sqrt", "square", "tan", "tanh", "float32",
]  # fmt: skip
Arithmetic = Literal["add", "subtract", "multiply", "divide", "minimum", "maximum", "fill", "lift"]


class Number(Frozen):
    """One feature as a number: null is NaN, booleans are 0 and 1, whole numbers become floats. Width 1."""

    op: Literal["number"] = "number"
    feature: str
    bounds: tuple[float, float] | None = Field(None, description="Smallest and largest value; beyond them refused. Null passes.")


class Lookup(Frozen):
    """A value's row of a table. Width: that of the rows.

    Exactly one of `feature` (compared as JSON scalar; 1, 1.0 and True are equal) and `input` (a block of width 1) is given.
    """

    op: Literal["lookup"] = "lookup"
    feature: str = ""
    input: Place | None = None
    values: list[Scalar]
    rows: list[list[float | None]] = Field(description="One row per value; null in a row is NaN.")
    unseen: list[float | None] | None = Field(None, description="Row of any other value; null: refused.")
    missing: list[float | None] | None = Field(None, description="Row of null and NaN; null: refused.")


class OneHot(Frozen):
    """1.0 in the column of the value, 0.0 elsewhere: a `lookup` with the table left out, for wide ones."""

    op: Literal["one-hot"] = "one-hot"
    feature: str = ""
    input: Place | None = None
    width: Annotated[int, Field(ge=1, le=2**20)]
    values: list[Scalar]
    columns: list[int] = Field(description="The column of each value; -1: none, all columns are 0.")
    unseen: int | None = Field(None, description="As in `columns`; null: refused.")
    missing: int | None = Field(None, description="As in `columns`; null: refused.")


class Take(Frozen):
    """Columns of other blocks side by side, in any order, any number of times."""

    op: Literal["take"] = "take"
    parts: list[tuple[Place, int]] = Field(description="(step, column) of each column.")


class Arithmetics(Frozen):
    """Each column with a constant: `block - by`, and so on. Same width.

    `fill` puts the constant in the place of NaN, `lift` in that of positive numbers that are smaller.
    """

    op: Literal["arithmetic"] = "arithmetic"
    input: Place
    function: Arithmetic
    by: list[float] = Field(description="One constant per column.")


class Apply(Frozen):
    """A function of numpy's for each column; `isnan` gives 0.0 and 1.0, `float32` rounds to float32 and back. Same width."""

    op: Literal["apply"] = "apply"
    input: Place
    function: Function


class Power(Frozen):
    """PowerTransformer without its standardisation. Same width."""

    op: Literal["power"] = "power"
    input: Place
    method: Literal["yeo-johnson", "box-cox"]
    lambdas: list[float]


class Quantile(Frozen):
    """QuantileTransformer: both interpolations averaged, then the distribution's inverse. Same width."""

    op: Literal["quantile"] = "quantile"
    input: Place
    references: list[float]
    quantiles: list[list[float]] = Field(description="One ascending list per column.")
    distribution: Literal["uniform", "normal"]


class Bins(Frozen):
    """The number of edges that are less than or equal to the value, as KBinsDiscretizer counts them. Same width."""

    op: Literal["bins"] = "bins"
    input: Place
    edges: list[list[float]] = Field(description="Inner edges, ascending, one list per column.")


class Products(Frozen):
    """Products of columns, as PolynomialFeatures makes them. Width: the number of products."""

    op: Literal["products"] = "products"
    input: Place
    factors: list[list[int]] = Field(description="Columns of each product, repeated for powers; an empty list is 1.0.")


class Normalize(Frozen):
    """Each row divided by its norm. Same width."""

    op: Literal["normalize"] = "normalize"
    input: Place
    norm: Literal["l1", "l2", "max"]
    least: Annotated[float, Field(gt=0)] = Field(5e-324, description="Rows of a smaller norm stay as they are: those of zeros.")


class Linear(Frozen):
    """`weights @ row + bias`. Width: the number of weight lists."""

    op: Literal["linear"] = "linear"
    input: Place
    weights: list[list[float]]
    bias: list[float]


class Trees(Frozen):
    """LightGBM's C library on a model text of the package. Width: `outputs`.

    Trees of other libraries are written as such a text; `float32` rounds the input first, as scikit-learn's do.
    """

    op: Literal["trees"] = "trees"
    input: Place
    file: str
    outputs: Annotated[int, Field(ge=1)]
    precision: Literal["float64", "float32"] = "float64"
    transform: bool = Field(False, description="Whether the text's own objective turns raw scores into probabilities.")


class Link(Frozen):
    """From raw scores to probabilities.

    `sigmoid`: each column by itself. `pair`: p of one column becomes (1 - p, p). `softmax`: over the row.
    `normalize`: each row divided by its sum, uniform where that is 0. `exp`: each column. `bayes`: as `softmax`, but by way of
    the sum's logarithm, whose rounding shows where scores are huge.
    """

    op: Literal["link"] = "link"
    input: Place
    function: Literal["sigmoid", "pair", "softmax", "normalize", "exp", "bayes"]


class Interpolate(Frozen):
    """Piecewise linear between points, constant beyond them (isotonic calibration). Width 1, as its input."""

    op: Literal["interpolate"] = "interpolate"
    input: Place
    x: list[float]
    y: list[float]


class Mean(Frozen):
    """Weighted mean of blocks of one width, added up in their order, then divided by the sum of the weights."""

    op: Literal["mean"] = "mean"
    inputs: Annotated[list[Place], Field(min_length=1)]
    weights: list[float]


class Check(Frozen):
    """The block itself, refused (`ModelFailed`) where a value is not allowed: what the original would have refused."""

    op: Literal["check"] = "check"
    input: Place
    nan: bool = Field(False, description="Whether NaN passes.")
    infinite: bool = Field(False, description="Whether infinities pass.")
    float32: bool = Field(False, description="Whether values beyond float32 are refused as well.")


Step = Annotated[
    Number | Lookup | OneHot | Take | Arithmetics | Apply | Power | Quantile | Bins | Products | Normalize | Linear | Trees | Link
    | Interpolate | Mean | Check,
    Field(discriminator="op"),
]  # fmt: skip


def inputs_of(step: Step) -> list[int]:
    """The earlier steps that a step reads."""
    if isinstance(step, Take):
        return [place for place, _ in step.parts]
    if isinstance(step, Mean):
        return list(step.inputs)
    found = getattr(step, "input", None)
    return [] if found is None else [found]


class Program(Frozen):
    """A compiled model. The last step holds the scores: one column for a regression, else one per class in schema order."""

    program: Literal[1] = 1
    steps: Annotated[list[Step], Field(min_length=1)]
    explain: Place | None = Field(
        None, description="The `trees` or `linear` step whose output is the raw score that contributions add up to."
    )

    @model_validator(mode="after")
    def _earlier(self) -> Program:
        # Reading backwards only: what is read exists, and nothing can loop.
        for place, step in enumerate(self.steps):
            if any(read >= place for read in inputs_of(step)):
                raise ValueError(f"step {place} reads a step that is not before it")
        return self
