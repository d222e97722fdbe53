"""Pages for people: what is deployed here, and a form that predicts. Plain HTML, no script, nothing from elsewhere.

A browser cannot send a key in a header, so the form of a keyed deployment asks for one and posts it; pages are never cached.
"""

from __future__ import annotations

import json
import shlex
from html import escape
from importlib.resources import files
from string import Template
from typing import Any
from urllib.parse import parse_qsl

from quarterdeck.errors import Forbidden, Malformed, QuarterdeckError, Unauthenticated
from quarterdeck.schema import Feature, Row, Scalar, Schema
from quarterdeck_node.doors.call import Call, Door, Reply, label_text
from quarterdeck_node.predictor import Predicted, Slot, Snapshot

_FIELD = "feature:"
_MAX_FIELDS = 2_000
_MAX_FORM = 2**20
_POLICY = (
    b"content-security-policy",
    b"default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
)
_SNIFF = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
_HEADERS = (_POLICY, (b"cache-control", b"no-store"), *_SNIFF)
_PAGES = files("quarterdeck_node.doors") / "pages"
_PAGE = Template((_PAGES / "page.html").read_text())
_STYLE = (_PAGES / "style.css").read_bytes()


def visible(call: Call) -> list[Slot]:
    """The deployments that this caller may ask, by name."""
    secret = call.secret()
    return [
        slot
        for _, slot in sorted(call.node.predictor.slots.items())
        if call.node.keyring.allows(secret, slot.plan, "predict", "read")
    ]


async def style(call: Call) -> Reply:
    """The pages' style sheet."""
    return Reply(_STYLE, media="text/css; charset=utf-8", headers=_SNIFF)


async def docs(call: Call) -> Reply:
    """Everything that is deployed here and open to this caller."""
    slots = visible(call)
    # That there are more is no secret; which ones they are is.
    hidden = len(call.node.predictor.slots) - len(slots)
    parts = [_described(call, slot) for slot in slots]
    if hidden:
        parts.append(
            "<p>Further deployments need an API key; open their form under "
            "<code>/deployments/&lt;name&gt;/form</code> and give it there.</p>"
        )
    if not call.node.predictor.slots:
        parts.append("<p>Nothing is deployed here yet.</p>")
    return _page("API node", "\n".join(parts) + '\n<p><a href="/openapi.json">OpenAPI document</a></p>')


async def show(call: Call) -> Reply:
    """The empty form, filled with a golden row."""
    try:
        call.admit(call.secret(), "predict")
    except (Unauthenticated, Forbidden) as error:
        return _asks_for_key(call, error)
    snapshot = call.take()
    return _page(f"Try {call.name}", _form(snapshot, _texts(snapshot.resident.manifest.golden[0].row), ""))


async def submit(call: Call) -> Reply:
    """Predict what was filled in; show the answer and the same request for a terminal."""
    # The one body that is read before its sender is known, since the key is in it: so it may be small only.
    body = await call.body("application/x-www-form-urlencoded", limit=_MAX_FORM)
    fields = _fields(body)
    try:
        call.admit(fields.get("key", "") or call.secret(), "predict")
    except (Unauthenticated, Forbidden) as error:
        return _asks_for_key(call, error)
    snapshot = call.take()
    texts = {name.removeprefix(_FIELD): text for name, text in fields.items() if name.startswith(_FIELD)}
    if not texts:
        texts = _texts(snapshot.resident.manifest.golden[0].row)
        return _page(f"Try {call.name}", _form(snapshot, texts, fields.get("key", "")))
    shown = _form(snapshot, texts, fields.get("key", ""))
    try:
        [row] = snapshot.resident.binder.rows([_record(snapshot.resident.manifest.data_schema, texts)])
        predicted = await call.predict(snapshot, [row], "form")
    except QuarterdeckError as error:
        return _page(f"Try {call.name}", f'<p class="refused" role="alert">{escape(str(error))}</p>{shown}', error.status)
    return _page(f"Try {call.name}", _answered(call, predicted, row) + shown)


def _fields(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict")
    except ValueError:
        raise Malformed("The body is not a form that can be read.") from None
    # Fields come from people and from programs that play people: the same limits as everywhere.
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Malformed("A field appears twice in the form.", code="duplicate-name")
    return fields


def _record(schema: Schema, texts: dict[str, str]) -> dict[str, Any]:
    """Typed values of the texts; what does not read as its type stays a text and is refused by the schema."""
    # Nothing is guessed: a text that is no number stays a text, and the schema refuses it by name.
    known = {feature.name: feature for feature in schema.features}
    return {name: _value(known[name], text) if name in known else text for name, text in texts.items()}


def _value(feature: Feature, text: str) -> Scalar:
    # An empty field is the only way in which a form can say null.
    if text == "" and feature.nullable:
        return None
    if feature.type in ("string", "datetime"):
        return text
    try:
        found = json.loads(text.strip())
    except ValueError:
        return text
    return found if isinstance(found, int | float) else text


def _texts(row: Row) -> dict[str, str]:
    return {name: "" if value is None else label_text(value) for name, value in row.items()}


def _form(snapshot: Snapshot, texts: dict[str, str], key: str) -> str:
    schema, plan = snapshot.resident.manifest.data_schema, snapshot.plan
    rows = "\n".join(_input(feature, texts.get(feature.name, "")) for feature in schema.features)
    ask = "" if plan.access == "public" else _key_input(key)
    return f'<form method="post" action="/deployments/{plan.name}/form">{ask}\n{rows}\n<button>Predict</button></form>'


def _key_input(key: str) -> str:
    return (
        '<p class="field"><label for="key">API key</label>'
        f'<input id="key" name="key" type="password" autocomplete="off" required value="{escape(key)}"></p>'
    )


def _input(feature: Feature, text: str) -> str:
    """One labelled field; categories are suggestions, since others are legal."""
    name = escape(_FIELD + feature.name)
    hint = f" <small>{escape(feature.description)}</small>" if feature.description else ""
    kind = feature.type + (", may be empty" if feature.nullable else "")
    label = f'<label for="{name}">{escape(feature.name)} <em>{kind}</em>{hint}</label>'
    required = "" if feature.nullable or feature.type == "string" else " required"
    if feature.type == "boolean":
        choices = [*([""] if feature.nullable else []), "true", "false"]
        options = "".join(f"<option{' selected' if choice == text else ''}>{choice}</option>" for choice in choices)
        return f'<p class="field">{label}<select id="{name}" name="{name}">{options}</select></p>'
    offered, suggestions = "", ""
    if feature.categories:
        offered = f' list="{name}:list"'
        options = "".join(f'<option value="{escape(category)}">' for category in feature.categories[:500])
        suggestions = f'<datalist id="{name}:list">{options}</datalist>'
    mode = ' inputmode="decimal"' if feature.type in ("float", "int") else ""
    field = f'<input id="{name}" name="{name}" value="{escape(text)}"{mode}{offered}{required}>'
    return f'<p class="field">{label}{field}{suggestions}</p>'


def _answered(call: Call, predicted: Predicted, row: Row) -> str:
    snapshot, answer = predicted.snapshot, predicted.answers[0]
    classes = snapshot.resident.manifest.data_schema.classes
    scores = "".join(
        f"<tr><th>{escape(label_text(label))}</th><td>{score:.6g}</td></tr>"
        for label, score in zip(classes, answer.scores, strict=False)
    )
    what = (
        f"{escape(str(snapshot.ref))}, revision {snapshot.plan.revision}, <code>{snapshot.ref.digest[:19]}…</code>, "
        f"request <code>{call.request_id}</code>"
    )
    return (
        f'<section class="answer" role="status"><h2>{escape(label_text(answer.prediction))}</h2>'
        f"<table>{scores}</table><p>{what}</p></section><h3>The same in a terminal</h3>"
        f"<pre><code>{escape(_curl(call, snapshot, row))}</code></pre>"
    )


def _curl(call: Call, snapshot: Snapshot, row: Row) -> str:
    url = f"{call.node.settings.base_url}/deployments/{snapshot.plan.name}/predict"
    key = "" if snapshot.plan.access == "public" else ' \\\n  -H "X-API-Key: $KEY"'
    body = shlex.quote(json.dumps(row, ensure_ascii=False))
    return f"curl -s {shlex.quote(url)}{key} \\\n  -H 'content-type: application/json' \\\n  -d {body}"


def _described(call: Call, slot: Slot) -> str:
    name = slot.plan.name
    if slot.live is None:
        return f"<section><h2>{name}</h2><p>Nothing answers yet.</p></section>"
    manifest = slot.live.resident.manifest
    golden = manifest.golden[0].row
    features = "".join(
        f"<tr><td><code>{escape(feature.name)}</code></td><td>{feature.type}</td><td>{'yes' if feature.nullable else 'no'}</td>"
        f"<td>{escape(feature.description)}</td></tr>"
        for feature in manifest.data_schema.features
    )
    snapshot = Snapshot(slot.live.plan, slot.live.resident)
    return (
        f"<section><h2>{name}</h2><p>{escape(manifest.description)}</p><p>{escape(str(slot.live.resident.ref))}, "
        f'revision {slot.live.plan.revision}. <a href="/deployments/{name}/form">Try it</a></p>'
        f"<table><tr><th>feature</th><th>type</th><th>may be null</th><th></th></tr>{features}</table>"
        f"<pre><code>{escape(_curl(call, snapshot, golden))}</code></pre></section>"
    )


def _asks_for_key(call: Call, error: QuarterdeckError) -> Reply:
    """Only a field for the key: names of features are shown to those who may ask."""
    said = f'<p class="refused" role="alert">{escape(error.detail)}</p>' if call.scope["method"] == "POST" else ""
    shown = f'<form method="post" action="/deployments/{call.name}/form">{_key_input("")}<button>Open the form</button></form>'
    return _page(f"Try {call.name}", f"{said}<p>This deployment needs an API key.</p>{shown}", error.status)


def _page(title: str, content: str, status: int = 200) -> Reply:
    body = _PAGE.substitute(title=escape(title), content=content)
    return Reply(body.encode(), status, "text/html; charset=utf-8", _HEADERS)


def refusal(error: QuarterdeckError, call: Call) -> Reply:
    """An error as a page."""
    return _page("That did not work", f'<p class="refused" role="alert">{escape(str(error))}</p>', error.status)


_FORM = "/deployments/{name}/form"
DOORS = (
    Door("GET", "/docs", "caller", docs, refusal=refusal),
    Door("GET", "/docs/style.css", "open", style, refusal=refusal),
    Door("GET", _FORM, "caller", show, refusal=refusal),
    Door("POST", _FORM, "caller", submit, "form", refusal),
)
