"""One text for each class label, whatever JSON or a model made of it: 1 and 1.0 are one class, `true` and "1" are others."""

from __future__ import annotations

import json

from quarterdeck.schema import Label

SQL_MACRO = """
create macro label_text(text) as case
    when regexp_full_match(text, '-?[0-9]+') then text
    when try_cast(text as double) = floor(try_cast(text as double))
        then coalesce(try_cast(try_cast(text as double) as hugeint)::varchar, text)
    else text end
"""
"""`label_text` for DuckDB: from stored JSON text to the text below. Strings keep their quotes, so no word is a number."""


def label_text(label: Label | None) -> str:
    """The text under which equal labels are equal: JSON, with whole numbers written without a fraction.

    True equals 1 in Python; in JSON, and for whoever reads a truth, it does not.
    """
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    return json.dumps(label)
