"""The binary tensor extension: elements as little-endian bytes behind the JSON part, in and out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from quarterdeck.column_rows import Values
from quarterdeck.errors import InvalidInput, Malformed

DTYPES = {
    "BOOL": "u1",
    **{f"INT{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
}
"""numpy's name of each datatype of a fixed size."""


def read(name: str, datatype: str, data: bytes) -> Values:
    """The elements of one tensor.

    Args:
        name: the input's, for errors.
        datatype: as the request says it.
        data: its part of the body.

    Raises:
        Malformed: the bytes are no whole elements of this datatype.
    """
    if datatype == "BYTES":
        return _texts(name, data)
    if datatype not in DTYPES:
        raise _malformed(name, "has a datatype that is not known")
    dtype = np.dtype(DTYPES[datatype])
    if len(data) % dtype.itemsize:
        raise _malformed(name, f"is not a whole number of {datatype} elements")
    found = np.frombuffer(data, dtype)
    if datatype != "BOOL":
        return found
    if found.size and int(found.max()) > 1:
        raise _malformed(name, "holds a byte that is neither 0 nor 1")
    return found.astype(bool)


def write(datatype: str, elements: Sequence[object]) -> bytes:
    """Elements as the extension wants them; texts carry their length in four bytes."""
    if datatype == "BYTES":
        texts = [str(element).encode() for element in elements]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    return np.asarray(elements, DTYPES[datatype]).tobytes()


def _texts(name: str, data: bytes) -> list[str]:
    found, place = [], 0
    while place < len(data):
        start = place + 4
        place = start + int.from_bytes(data[place:start], "little")
        if start > len(data) or place > len(data):
            raise _malformed(name, "ends within an element")
        try:
            found.append(data[start:place].decode())
        except UnicodeDecodeError:
            raise InvalidInput(
                f"Row {len(found)}, column {name[:64]}: must be UTF-8 text.",
                kind="input",
                name=name[:64],
                extra={"row": len(found), "column": name[:64]},
            ) from None
    return found


def _malformed(name: str, said: str) -> Malformed:
    return Malformed(f"The binary data of input {name[:64]} {said}.", kind="input", name=name[:64])
