"""An inference request of the Open Inference Protocol over REST: its bytes to rows, JSON or binary.

The plain case, one element per feature, is decoded to typed members in one step and its row bound at once. Whatever is not plain
or not quite right takes the general road, which answers the same and says what is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from quarterdeck.errors import InvalidInput, Malformed, Unsupported
from quarterdeck.schema import Row, Schema
from quarterdeck_node.binding import parse
from quarterdeck_node.doors import binary_tensors
from quarterdeck_node.doors.tensors import TAKEN, Tensor, check_content_type, columns
from quarterdeck_node.limits import Limits
from quarterdeck_node.predictor import Resident

MAX_INPUTS = 4_096
MAX_OUTPUTS = 16
MAX_PARAMETERS = 64
_DEPTH = 5
"""Levels of nesting of a request with nested data: no request that is answered has more."""
_Parameters = Annotated[dict[str, str | int | float | bool], Meta(max_length=MAX_PARAMETERS)]
_Size = Annotated[int, Meta(ge=0)]
# Each of them changes what a request means; to ignore one would be to answer another question.
_REFUSED = ("shared_memory_region", "classification", "sequence_id")


# Without the collector's care: they hold what JSON can hold, which has no cycles.
class Input(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One tensor as it came; without `data` its elements are binary."""

    name: str
    shape: Annotated[list[_Size], Meta(min_length=1, max_length=2)]
    datatype: str
    data: list[Any] | None = None
    parameters: _Parameters | None = None


class Requested(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One output that is asked for."""

    name: str
    parameters: _Parameters | None = None


class InferenceRequest(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The JSON part of a request. `model_name` is no part of the protocol, but KServe's client repeats the path's there."""

    inputs: Annotated[list[Input], Meta(min_length=1, max_length=MAX_INPUTS)]
    id: Annotated[str, Meta(max_length=256)] | None = None
    model_name: str = ""
    parameters: _Parameters | None = None
    outputs: Annotated[list[Requested], Meta(max_length=MAX_OUTPUTS)] | None = None

    @property
    def is_bare(self) -> bool:
        """Whether it holds nothing but tensors and the names of outputs."""
        parameters = (self.parameters, *(one.parameters for one in (*self.inputs, *(self.outputs or ()))))
        return not (self.id or self.model_name or any(parameters))

    def binary(self, output: str) -> bool:
        """Whether an output is wanted as bytes: its own parameter first, then the request's."""
        default = (self.parameters or {}).get("binary_data_output", False)
        own = next((one.parameters for one in self.outputs or () if one.name == output), None)
        return bool((own or {}).get("binary_data", default))


_decode = msgspec.json.Decoder(InferenceRequest).decode


class Reader:
    """Binds inference requests to one version's schema.

    Args:
        resident: the version.
    """

    def __init__(self, resident: Resident) -> None:
        self._binder = resident.binder
        self._schema: Schema = resident.manifest.data_schema
        self._taken = {feature.name: TAKEN[feature.type] for feature in self._schema.features}

    def rows(self, request: InferenceRequest, binary: bytes) -> Sequence[Row]:
        """The rows of a request, bound by name.

        Args:
            request: its JSON part.
            binary: what follows it.

        Raises:
            InvalidInput: the tensors do not fit the schema.
            Malformed: elements are missing, or there are bytes that belong to none.
            TooLarge: more rows than the node takes.
            Unsupported: a parameter that would change the request's meaning.
        """
        row = None if binary else self._plain(request)
        if row is not None:
            return self._binder.rows([row])
        _check_parameters(request)
        found, count = columns(_tensors(request, binary), self._schema)
        return self._binder.columns(found, count)

    def _plain(self, request: InferenceRequest) -> Row | None:
        """The row of a request with one element for each feature, in any order; None for every other request."""
        taken, row = self._taken, {}
        if len(request.inputs) != len(taken) or request.parameters or any(one.parameters for one in request.outputs or ()):
            return None
        for tensor in request.inputs:
            if tensor.datatype not in taken.get(tensor.name, ()) or tensor.parameters:
                return None
            data = tensor.data
            if tensor.shape == [1, 1] and data is not None and len(data) == 1 and type(data[0]) is list:
                data = data[0]
            elif tensor.shape != [1]:
                return None
            if data is None or len(data) != 1 or type(data[0]) is list:
                return None
            row[tensor.name] = data[0]
        return row if len(row) == len(taken) else None


def read(body: bytes, header_length: str, limits: Limits) -> tuple[InferenceRequest, bytes]:
    """A request and the binary data behind it.

    Args:
        body: the whole body.
        header_length: `Inference-Header-Content-Length` as it was sent; empty where all is JSON.
        limits: of the node.

    Raises:
        Malformed: it is no inference request.
        TooLarge: far too many values.
    """
    if not header_length:
        return _request(body, limits), b""
    if not (header_length.isascii() and header_length.isdigit() and len(header_length) < 10 and int(header_length) <= len(body)):
        raise Malformed(
            "Inference-Header-Content-Length must be the number of bytes of the JSON part.",
            kind="header",
            name="inference-header-content-length",
        )
    end = int(header_length)
    return _request(body[:end], limits), body[end:]


def _request(body: bytes, limits: Limits) -> InferenceRequest:
    try:
        request = _decode(body)
        # A name that appears twice would silently count once: every name has its colon, so their number tells.
        if body.count(b",") < limits.values and limits.depth >= _DEPTH and body.count(b":") == _names(request):
            return request
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    # NaN, colons in texts, duplicate names, deep nesting, whatever is wrong: the general road reads or refuses it in our words.
    try:
        return msgspec.convert(parse(body, limits), InferenceRequest)
    except msgspec.ValidationError as error:
        place = str(error).partition(" - at `$")[2].strip(".`")[:64] or "the document"
        # The only message that quotes the caller.
        said = "unknown member" if "unknown field" in str(error) else str(error).partition(" - at")[0]
        raise Malformed(f"This is not an inference request: {place}: {said}.", kind="member", name=place) from None


def _names(request: InferenceRequest) -> int:
    """How many names the document has if each appears once."""
    found = 1 + bool(request.id) + bool(request.model_name)
    if request.parameters:
        found += 1 + len(request.parameters)
    if request.outputs:
        found += 1
    for tensor in request.inputs:
        found += 3 + (tensor.data is not None)
        if tensor.parameters:
            found += 1 + len(tensor.parameters)
    for output in request.outputs or ():
        found += 1
        if output.parameters:
            found += 1 + len(output.parameters)
    return found


def _check_parameters(request: InferenceRequest) -> None:
    given = [request.parameters, *(one.parameters for one in (*request.inputs, *(request.outputs or ())))]
    for parameters in filter(None, given):
        if any(name in parameters for name in _REFUSED):
            raise Unsupported(
                f"None of the parameters {', '.join(_REFUSED)} is spoken here.",
                code="parameter-unsupported",
                hint="GET /v2 lists the extensions.",
            )
        check_content_type(parameters.get("content_type"))


def _tensors(request: InferenceRequest, binary: bytes) -> list[Tensor]:
    """The tensors with their elements, which are in the document or one after the other behind it."""
    found, place = [], 0
    for one in request.inputs:
        size = (one.parameters or {}).get("binary_data_size")
        if size is None:
            if one.data is None:
                raise Malformed(f"Input {one.name[:64]} has no data.", kind="input", name=one.name[:64])
            found.append(Tensor(one.name, one.datatype, one.shape, _flat(one.data)))
            continue
        if one.data is not None or type(size) is not int or not 0 <= size <= len(binary) - place:
            raise Malformed(
                f"The binary_data_size of input {one.name[:64]} does not fit the body.", kind="input", name=one.name[:64]
            )
        elements = binary_tensors.read(one.name, one.datatype, binary[place : place + size])
        place += size
        found.append(Tensor(one.name, one.datatype, one.shape, elements))
    if place != len(binary):
        raise InvalidInput("There are bytes behind the last tensor that belong to none.", code="shape-mismatch", kind="input")
    return found


def _flat(data: list[Any]) -> list[Any]:
    """The elements in row-major order, nested or flat."""
    # Nested data is flattened once; whatever is nested deeper is no scalar and is refused by the schema.
    if data and isinstance(data[0], list):
        return [value for part in data for value in (part if isinstance(part, list) else [part])]
    return data
