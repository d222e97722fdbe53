"""Programs and rows made at random, and boosters for them to use."""

from __future__ import annotations

from functools import cache
from typing import Any, get_args

import lightgbm
import numpy as np
from hypothesis import strategies as st

from quarterdeck.compiled.program import (
    Apply,
    Arithmetics,
    Bins,
    Check,
    Function,
    Interpolate,
    Linear,
    Link,
    Lookup,
    Mean,
    Normalize,
    Number,
    OneHot,
    Power,
    Products,
    Program,
    Quantile,
    Step,
    Take,
    Trees,
)
from quarterdeck.compiled.trees import Booster
from quarterdeck.schema import Feature, Row, Schema

SCHEMA = Schema(
    task="regression",
    features=[
        Feature(name="plain", type="float"),
        Feature(name='it\'s "null"\\n', type="float", nullable=True),
        Feature(name="whole", type="int"),
        Feature(name="flag", type="boolean", nullable=True),
        Feature(name="text", type="string", nullable=True),
        Feature(name="zone", type="string"),
    ],
)
NUMERIC = [feature.name for feature in SCHEMA.features if feature.type not in ("string", "datetime")]
TEXTS = ["FR", "DE", "", "é", "unseen"]
EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0**53, 1e-35, -1e-35, 1e300, -1e300, 3.4028235e38, 3.5e38, 5e-324]
FLOATS = st.sampled_from(EDGES) | st.floats(-10, 10) | st.floats(allow_nan=False, allow_infinity=False)
SMALL = st.floats(-4, 4, allow_subnormal=False).map(lambda value: round(value, 3))
ROWS: st.SearchStrategy[Row] = st.fixed_dictionaries(
    {
        "plain": FLOATS | st.integers(-5, 5) | st.sampled_from([np.inf, -np.inf]),
        NUMERIC[1]: st.none() | FLOATS | st.just(np.nan),
        "whole": st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3),
        "flag": st.none() | st.booleans(),
        "text": st.none() | st.sampled_from(TEXTS),
        "zone": st.sampled_from(TEXTS),
    }
)
FEATURES = 3
"""How many features the boosters take."""


@cache
def trained(objective: str) -> Any:
    """A small booster of LightGBM's own, with missing values in its data."""
    random = np.random.default_rng(3)
    X = random.normal(size=(600, FEATURES)).round(1)
    X[random.random(X.shape) < 0.1] = np.nan
    score = np.nan_to_num(X[:, 0]) + np.nan_to_num(X[:, 1] * X[:, 2])
    y = np.digitize(score, [-0.5, 0.5]) if objective == "multiclass" else score > 0 if objective == "binary" else score
    settings = {"objective": objective, "num_leaves": 7, "verbose": -1, "num_threads": 1, "seed": 0}
    if objective == "multiclass":
        settings["num_class"] = 3
    return lightgbm.train(settings, lightgbm.Dataset(X, y), num_boost_round=5)


@cache
def boosters() -> dict[str, Booster]:
    """One booster for each kind of objective, by file name."""
    return {f"{name}.txt": Booster(trained(name).model_to_string().encode()) for name in ("regression", "binary", "multiclass")}


class Maker:
    """Draws a program step by step; every step reads blocks that are there."""

    def __init__(self, draw: Any) -> None:
        self._draw = draw
        self.steps: list[Step] = []
        self.widths: list[int] = []

    def program(self, length: int) -> Program:
        """A program of a regression with so many steps before the last."""
        self._add(Number(feature=self._draw(st.sampled_from(NUMERIC))), 1)
        for _ in range(length):
            getattr(self, f"_{self._draw(st.sampled_from(_KINDS))}")()
        # The last step takes one column, so that whatever is computed for it must be right.
        last = len(self.steps) - 1
        self._add(Take(parts=[(last, self._draw(st.integers(0, self.widths[last] - 1)))]), 1)
        return Program(steps=self.steps)

    def _add(self, step: Step, width: int) -> int:
        self.steps.append(step)
        self.widths.append(width)
        return len(self.steps) - 1

    def _some(self) -> tuple[int, int]:
        place = self._draw(st.integers(0, len(self.steps) - 1))
        return place, self.widths[place]

    def _one(self) -> int:
        place, width = self._some()
        if width == 1 and self._draw(st.booleans()):
            return place
        return self._add(Take(parts=[(place, self._draw(st.integers(0, width - 1)))]), 1)

    def _of(self, width: int) -> int:
        places = [self._some() for _ in range(width)]
        return self._add(Take(parts=[(place, self._draw(st.integers(0, given - 1))) for place, given in places]), width)

    def _list(self, count: int, strategy: Any = SMALL) -> Any:
        return self._draw(st.lists(strategy, min_size=count, max_size=count))

    def _number(self) -> None:
        bounds = self._draw(st.none() | st.just((-1e9, 1e9)))
        self._add(Number(feature=self._draw(st.sampled_from(NUMERIC)), bounds=bounds), 1)

    def _key(self) -> dict[str, Any]:
        if self._draw(st.booleans()):
            feature = self._draw(st.sampled_from(SCHEMA.features))
            choices: dict[str, list[Any]] = {"string": TEXTS[:-1], "boolean": [True, False], "int": [-1, 0, 1, 2**53]}
            return {"feature": feature.name, "values": choices.get(feature.type, EDGES[1:5])}
        return {"input": self._one(), "values": [0.0, 1.0, -1.0, 2.0]}

    def _lookup(self) -> None:
        key, width = self._key(), self._draw(st.integers(1, 3))
        row = st.lists(st.none() | SMALL, min_size=width, max_size=width)
        rows = [self._draw(row) for _ in key["values"]]
        self._add(Lookup(**key, rows=rows, unseen=self._draw(st.none() | row), missing=self._draw(st.none() | row)), width)

    def _one_hot(self) -> None:
        key, width = self._key(), self._draw(st.integers(1, 3))
        column = st.integers(-1, width - 1)
        columns = [self._draw(column) for _ in key["values"]]
        other = st.none() | column
        self._add(OneHot(**key, width=width, columns=columns, unseen=self._draw(other), missing=self._draw(other)), width)

    def _take(self) -> None:
        self._of(self._draw(st.integers(1, 5)))

    def _arithmetic(self) -> None:
        place, width = self._some()
        name = self._draw(st.sampled_from(["add", "subtract", "multiply", "divide", "minimum", "maximum", "fill"]))
        self._add(Arithmetics(input=place, function=name, by=self._list(width)), width)

    def _apply(self) -> None:
        place, width = self._some()
        names = get_args(Function)
        self._add(Apply(input=place, function=self._draw(st.sampled_from(names))), width)

    def _power(self) -> None:
        place, width = self._some()
        powers = self._list(width, st.sampled_from([0.0, 2.0, 1e-20, 1.0, -0.7, 2.3]))
        self._add(Power(input=place, method=self._draw(st.sampled_from(["yeo-johnson", "box-cox"])), lambdas=powers), width)

    def _quantile(self) -> None:
        place, width = self._some()
        quantiles = [sorted(self._list(4)) for _ in range(width)]
        kind = self._draw(st.sampled_from(["uniform", "normal"]))
        self._add(Quantile(input=place, references=[0.0, 0.3, 0.5, 1.0], quantiles=quantiles, distribution=kind), width)

    def _bins(self) -> None:
        place, width = self._some()
        self._add(Bins(input=place, edges=[sorted(self._list(3)) for _ in range(width)]), width)

    def _products(self) -> None:
        place, width = self._some()
        factors = self._draw(st.lists(st.lists(st.integers(0, width - 1), max_size=3), min_size=1, max_size=4))
        self._add(Products(input=place, factors=factors), len(factors))

    def _normalize(self) -> None:
        place, width = self._some()
        self._add(Normalize(input=place, norm=self._draw(st.sampled_from(["l1", "l2", "max"]))), width)

    def _linear(self) -> None:
        place, width = self._some()
        outputs = self._draw(st.integers(1, 3))
        weights = [self._list(width) for _ in range(outputs)]
        self._add(Linear(input=place, weights=weights, bias=self._list(outputs)), outputs)

    def _trees(self) -> None:
        file = self._draw(st.sampled_from(sorted(boosters())))
        outputs = boosters()[file].outputs
        precision = self._draw(st.sampled_from(["float64", "float32"]))
        step = Trees(
            input=self._of(FEATURES), file=file, outputs=outputs, precision=precision, transform=self._draw(st.booleans())
        )
        self._add(step, outputs)

    def _link(self) -> None:
        function = self._draw(st.sampled_from(["sigmoid", "pair", "softmax", "normalize", "exp"]))
        place, width = (self._one(), 2) if function == "pair" else self._some()
        self._add(Link(input=place, function=function), width)

    def _interpolate(self) -> None:
        self._add(Interpolate(input=self._one(), x=sorted(set(self._list(4))), y=[]), 1)
        step = self.steps[-1]
        assert isinstance(step, Interpolate)
        self.steps[-1] = step.model_copy(update={"y": self._list(len(step.x))})

    def _mean(self) -> None:
        inputs = [self._one() for _ in range(self._draw(st.integers(1, 3)))]
        self._add(Mean(inputs=inputs, weights=self._list(len(inputs), st.sampled_from([1.0, 0.5, 2.25]))), 1)

    def _check(self) -> None:
        place, width = self._some()
        flags = {name: self._draw(st.booleans()) for name in ("nan", "infinite", "float32")}
        self._add(Check(input=place, **flags), width)


_KINDS = [name[1:] for name in vars(Maker) if name.startswith("_") and name not in ("__init__", "_add", "_some", "_one", "_of")]
_KINDS = [name for name in _KINDS if name not in ("list", "key") and not name.startswith("_")]


@st.composite
def programs(draw: Any) -> Program:
    """Any program over `SCHEMA` that fits."""
    return Maker(draw).program(draw(st.integers(1, 8)))
