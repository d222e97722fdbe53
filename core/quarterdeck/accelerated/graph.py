"""The scoring part of a program as an ONNX graph in float64: from the blocks that trees and linear models read to the scores.

Trees are walked by gathering, all of them and all rows at once: operations that every provider of ONNX Runtime has, CUDA's among
them, where its own tree operations run on the processor only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

from quarterdeck.accelerated.scoring import entries, scoring
from quarterdeck.accelerated.tree_arrays import Ensemble, read
from quarterdeck.compiled.program import Check, Linear, Link, Mean, Program, Step, Take, Trees
from quarterdeck.compiling.draft import NotCompilable

OPSET = 18
_ZERO = 1e-35
"""What LightGBM takes for 0."""


def graph(program: Program, texts: Mapping[str, bytes]) -> bytes:
    """An ONNX model with an input ``block_<step>`` of shape (rows, columns) for each of `entries`, and the output ``scores``.

    Raises:
        NotCompilable: a step of the scoring part has no such form; its text says which.
    """
    writer = _Writer(texts)
    for place in scoring(program):
        writer.step(place, program.steps[place], place in entries(program))
    last = len(program.steps) - 1
    if last not in writer.names:
        raise NotCompilable("the last of its steps are no work for a GPU")
    return writer.finish(last)


@dataclass
class _Writer:
    """Nodes and constants so far, and the tensor of each step."""

    texts: Mapping[str, bytes]
    names: dict[int, str] = field(default_factory=dict)
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)
    _count: int = 0

    def step(self, place: int, step: Step, is_entry: bool) -> None:
        """Write one step."""
        if is_entry:
            name = f"block_{place}"
            self.inputs.append(helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["rows", None]))
            self.names[place] = self._scored(step, name)
        elif isinstance(step, (Trees, Linear)):
            self.names[place] = self._scored(step, self._of(step.input))
        elif isinstance(step, Link):
            self.names[place] = self._link(step.function, self._of(step.input))
        elif isinstance(step, Mean):
            self.names[place] = self._mean(step)
        elif isinstance(step, Take):
            self.names[place] = self._take(step)
        # What is refused for being infinite or NaN is refused as an answer as well.
        elif isinstance(step, Check):
            self.names[place] = self._of(step.input)
        else:
            raise NotCompilable(f"a step '{step.op}' after the first model has no form for a GPU")

    def finish(self, last: int) -> bytes:
        """The model's bytes."""
        self.nodes.append(helper.make_node("Identity", [self.names[last]], ["scores"]))
        output = helper.make_tensor_value_info("scores", TensorProto.DOUBLE, ["rows", None])
        made = helper.make_graph(self.nodes, "scores", self.inputs, [output], self.constants)
        model = helper.make_model(made, producer_name="quarterdeck", opset_imports=[helper.make_opsetid("", OPSET)])
        # What every runtime that we allow can read; left alone, it would be the newest that the writer knows.
        model.ir_version = 10
        checker.check_model(model)
        return bytes(model.SerializeToString())

    def _of(self, place: int) -> str:
        if place not in self.names:
            raise NotCompilable("a model reads encoded columns and another model's scores at once, which has no form for a GPU")
        return self.names[place]

    def _scored(self, step: Step, block: str) -> str:
        if isinstance(step, Linear):
            product = self._call("MatMul", block, self._constant(np.array(step.weights, dtype=np.float64).T))
            return self._call("Add", product, self._constant(np.array(step.bias, dtype=np.float64)))
        assert isinstance(step, Trees)
        # Trained on float32: a value that rounds to the other side of a threshold must do so here as well.
        if step.precision == "float32":
            block = self._call("Cast", self._call("Cast", block, to=TensorProto.FLOAT), to=TensorProto.DOUBLE)
        ensemble = read(self.texts[step.file])
        raw = self._walked(ensemble, block)
        return self._objective(ensemble.objective, raw) if step.transform else raw

    def _walked(self, trees: Ensemble, block: str) -> str:
        """Raw scores: shape (rows, outputs)."""
        flat = {
            name: self._constant(getattr(trees, name))
            for name in ("feature", "threshold", "default_left", "zeroes_missing", "left", "right", "value")
        }
        rows = self._call("Shape", block, start=0, end=1)
        shape = self._call("Concat", rows, self._constant(np.array([trees.trees], dtype=np.int64)), axis=0)
        place = self._call("Expand", self._constant(trees.roots[None, :]), shape)
        # As many steps as the deepest tree has; rows that are in a leaf by then stay there.
        for _ in range(trees.steps):
            value = self._call("GatherElements", block, self._call("Gather", flat["feature"], place), axis=1)
            missing = self._call("IsNaN", value)
            if trees.zeroes_missing.any():
                tiny = self._call("LessOrEqual", self._call("Abs", value), self._constant(np.array(_ZERO)))
                zero = self._call("And", tiny, self._call("Gather", flat["zeroes_missing"], place))
                missing = self._call("Or", missing, zero)
            less = self._call("LessOrEqual", value, self._call("Gather", flat["threshold"], place))
            # Not by Where: neither provider chooses between truth values.
            by_default = self._call("And", missing, self._call("Gather", flat["default_left"], place))
            goes_left = self._call("Or", by_default, self._call("And", self._call("Not", missing), less))
            place = self._call(
                "Where", goes_left, self._call("Gather", flat["left"], place), self._call("Gather", flat["right"], place)
            )
        leaves = self._call("Gather", flat["value"], place)
        # A round has one tree for each output, and its trees stand side by side.
        rounds = self._constant(np.array([0, trees.trees // trees.outputs, trees.outputs], dtype=np.int64))
        summed = self._call(
            "ReduceSum", self._call("Reshape", leaves, rounds), self._constant(np.array([1], dtype=np.int64)), keepdims=0
        )
        divisor = float(trees.trees // trees.outputs)
        return self._call("Div", summed, self._constant(np.array(divisor))) if trees.average else summed

    def _objective(self, objective: str, raw: str) -> str:
        # Texts of averaged trees name no objective: what they add up to are probabilities already.
        kind, *parameters = objective.split() or [""]
        if kind == "binary" and "sigmoid:1" in parameters:
            return self._call("Sigmoid", raw)
        if kind == "multiclass":
            return self._call("Softmax", raw, axis=1)
        if kind in ("regression", "regression_l1", "huber", "fair", "quantile", "mape") and "sqrt" not in parameters:
            return raw
        if not kind:
            return raw
        if kind in ("poisson", "gamma", "tweedie"):
            return self._call("Exp", raw)
        raise NotCompilable(f"LightGBM's objective {kind} has no form for a GPU")

    def _link(self, function: str, block: str) -> str:
        if function == "sigmoid":
            return self._call("Sigmoid", block)
        if function == "pair":
            return self._call("Concat", self._call("Sub", self._constant(np.array(1.0)), block), block, axis=1)
        if function in ("softmax", "bayes"):
            return self._call("Softmax", block, axis=1)
        if function == "exp":
            return self._call("Exp", block)
        raise NotCompilable(f"a link '{function}' has no form for a GPU")

    def _mean(self, step: Mean) -> str:
        total = ""
        for place, weight in zip(step.inputs, step.weights, strict=True):
            part = self._call("Mul", self._of(place), self._constant(np.array(weight)))
            total = self._call("Add", total, part) if total else part
        return self._call("Div", total, self._constant(np.array(sum(step.weights))))

    def _take(self, step: Take) -> str:
        parts = [
            self._call("Gather", self._of(place), self._constant(np.array([column], dtype=np.int64)), axis=1)
            for place, column in step.parts
        ]
        return self._call("Concat", *parts, axis=1)

    def _call(self, operation: str, *inputs: str, **attributes: Any) -> str:
        name = self._fresh()
        self.nodes.append(helper.make_node(operation, list(inputs), [name], **attributes))
        return name

    def _constant(self, value: Any) -> str:
        name = self._fresh()
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _fresh(self) -> str:
        self._count += 1
        return f"t{self._count}"
