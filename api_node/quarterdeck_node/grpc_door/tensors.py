"""gRPC's tensors and parameters, to and from those that all doors of the protocol share (`doors.tensors`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from quarterdeck.column_rows import Values
from quarterdeck.errors import InvalidInput, Malformed
from quarterdeck_node.answers import Answers
from quarterdeck_node.doors import binary_tensors
from quarterdeck_node.doors.tensors import Output, Tensor, check_content_type, elements
from quarterdeck_node.grpc_door import open_inference_pb2 as pb

# The field of `InferTensorContents` that each datatype uses, and numpy's name of what the field holds.
_CONTENTS = {
    "BOOL": ("bool_contents", "?"),
    **dict.fromkeys(("INT8", "INT16", "INT32"), ("int_contents", "i8")),
    "INT64": ("int64_contents", "i8"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), ("uint_contents", "i8")),
    "UINT64": ("uint64_contents", "u8"),
    "FP32": ("fp32_contents", "f8"),
    "FP64": ("fp64_contents", "f8"),
}


def inputs(request: pb.ModelInferRequest) -> list[Tensor]:
    """The tensors of a request, whichever of the two ways they came.

    Raises:
        Malformed: both ways at once, no input, or a datatype that is not known.
        InvalidInput: text that is not UTF-8, or a shape of other than one or two sides.
    """
    raw = request.raw_input_contents
    if not request.inputs:
        raise Malformed("The request has no inputs.", kind="input")
    if raw and len(raw) != len(request.inputs):
        raise Malformed(f"The request has {len(request.inputs)} inputs and {len(raw)} raw contents.", kind="input")
    found = []
    for place, tensor in enumerate(request.inputs):
        if raw and tensor.HasField("contents"):
            raise Malformed("Send either contents or raw contents, not both.", kind="input", name=tensor.name[:64])
        if not 1 <= len(tensor.shape) <= 2 or min(tensor.shape) < 0:
            name = tensor.name[:64]
            raise InvalidInput(
                f"Input {name} must have shape [n] or [n, features].", code="shape-mismatch", kind="input", name=name
            )
        check_content_type(_parameter(tensor.parameters, "content_type"))
        values = binary_tensors.read(tensor.name, tensor.datatype, raw[place]) if raw else _values(tensor)
        found.append(Tensor(tensor.name, tensor.datatype, list(tensor.shape), values))
    return found


def response(
    request: pb.ModelInferRequest, wanted: Sequence[Output], answers: Answers, count: int, parameters: Mapping[str, str | int]
) -> pb.ModelInferResponse:
    """The answers to `count` rows as tensors, raw where the request's were."""
    given = {name: _said(value) for name, value in parameters.items()}
    answered = pb.ModelInferResponse(model_name=request.model_name, parameters=given)
    for output in wanted:
        tensor = answered.outputs.add(name=output.name, datatype=output.datatype, shape=[count, *output.tail])
        values = elements(output, answers)
        if request.raw_input_contents:
            answered.raw_output_contents.append(binary_tensors.write(output.datatype, values))
        elif output.datatype == "BYTES":
            tensor.contents.bytes_contents.extend(str(value).encode() for value in values)
        else:
            getattr(tensor.contents, _CONTENTS[output.datatype][0]).extend(values)
    return answered


def _values(tensor: pb.ModelInferRequest.InferInputTensor) -> Values:
    if tensor.datatype == "BYTES":
        return [_text(tensor.name, row, value) for row, value in enumerate(tensor.contents.bytes_contents)]
    if tensor.datatype not in _CONTENTS:
        raise Malformed(
            f"Input {tensor.name[:64]} has a datatype that is read from raw contents only, or is not known.", kind="input"
        )
    field, dtype = _CONTENTS[tensor.datatype]
    return np.array(getattr(tensor.contents, field), dtype=dtype)


def _text(name: str, row: int, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        name = name[:64]
        extra = {"row": row, "column": name}
        raise InvalidInput(f"Row {row}, column {name}: must be UTF-8 text.", kind="input", name=name, extra=extra) from None


def _parameter(parameters: Mapping[str, pb.InferParameter], name: str) -> object:
    # Asked for by `in`: a map of messages makes an entry for whatever it is asked for.
    return parameters[name].string_param if name in parameters else None


def _said(value: str | int) -> pb.InferParameter:
    return pb.InferParameter(string_param=value) if isinstance(value, str) else pb.InferParameter(int64_param=value)
