"""The tree of errors: each has a stable code, an HTTP status, the kind and name of the thing, and a hint with the next step.

    QuarterdeckError            500 internal
    ├── InvalidInput            422 invalid-input        a request, a file or a setting says something impossible
    ├── Malformed               400 malformed            bytes that are not the format they claim to be
    ├── Unauthenticated         401 unauthenticated
    ├── Forbidden               403 forbidden
    ├── NotFound                404 not-found
    ├── Conflict                409 conflict             the thing changed meanwhile, or exists already
    ├── TooLarge                413 too-large
    ├── Unsupported             415 unsupported          a media type or a feature that is not spoken here
    ├── TooMany                 429 rate-limited         a key's own limit; comes with Retry-After
    ├── Overloaded              503 overloaded           shed before work; comes with Retry-After
    ├── NotReady                503 not-ready
    ├── PackageRefused          422 (reason codes)       tampered, foreign environment, golden mismatch …: never loaded
    ├── StorageError            502 (reason codes)       no-such-bucket, wrong-credentials, unreachable …
    ├── NotExplainable          501 explain-unsupported  a model whose answers cannot be split among its features
    └── ModelFailed             500 model-failed         the model itself raised or answered garbage
        └── ValueRefused        422 value-refused        a row that fits the schema, and that the model has no answer for

Programs read `code`; people read `detail` and `hint`. Neither ever carries a value from a request, a path of the
server or a secret.
"""

from __future__ import annotations

from typing import Any, ClassVar


class QuarterdeckError(Exception):
    """An error that names the thing and the next step.

    Args:
        detail: one sentence: what is wrong with which thing; never echoes request values or secrets.
        code: stable kebab-case code; the class's own where not given.
        hint: the next step, as an imperative sentence; may be empty.
        kind: what sort of thing it is about, e.g. ``deployment``, ``package``, ``feature``.
        name: which one, e.g. ``late-flights``.
        extra: further machine-readable members for problem+json, e.g. ``{"row": 3, "column": "dep_hour"}``.
    """

    status: ClassVar[int] = 500
    default_code: ClassVar[str] = "internal"

    def __init__(
        self,
        detail: str,
        *,
        code: str = "",
        hint: str = "",
        kind: str = "",
        name: str = "",
        extra: dict[str, Any] | None = None,
    ) -> None:
        # Only the detail: pickling, as between processes of a pool, calls the class again with these very arguments.
        super().__init__(detail)
        self.detail = detail
        self.code = code or self.default_code
        self.hint = hint
        self.kind = kind
        self.name = name
        self.extra = dict(extra or {})

    def problem(self) -> dict[str, Any]:
        """RFC 9457 members: type, title, status, detail, plus code, hint, kind, name and extras."""
        named = {"hint": self.hint, "kind": self.kind, "name": self.name}
        return {
            "type": f"urn:quarterdeck:{self.code}",
            "title": self.code.replace("-", " "),
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            **{key: value for key, value in named.items() if value},
            # Last and flat, as RFC 9457 has its extension members.
            **self.extra,
        }

    def __str__(self) -> str:
        return f"{self.detail} {self.hint}".strip()


class InvalidInput(QuarterdeckError):
    """A request, a file or a setting says something impossible."""

    status = 422
    default_code = "invalid-input"


class Malformed(QuarterdeckError):
    """The bytes are not the format that they claim to be."""

    status = 400
    default_code = "malformed"


class Unauthenticated(QuarterdeckError):
    """No credential, or one that is not known."""

    status = 401
    default_code = "unauthenticated"


class Forbidden(QuarterdeckError):
    """A known credential without the right to do this."""

    status = 403
    default_code = "forbidden"


class NotFound(QuarterdeckError):
    """There is no such thing here; the detail lists what there is, where that is short."""

    status = 404
    default_code = "not-found"


class Conflict(QuarterdeckError):
    """The thing changed meanwhile, or exists already."""

    status = 409
    default_code = "conflict"


class TooLarge(QuarterdeckError):
    """Over a stated limit."""

    status = 413
    default_code = "too-large"


class Unsupported(QuarterdeckError):
    """A media type or a feature that is not spoken here."""

    status = 415
    default_code = "unsupported"


class TooMany(QuarterdeckError):
    """More requests than a key's limit allows; the same request is welcome after `Retry-After`.

    Args:
        seconds: whole seconds until the next request is let in; at least 1.
    """

    status = 429
    default_code = "rate-limited"

    def __init__(self, detail: str, *, seconds: int = 1, **named: Any) -> None:
        super().__init__(detail, **named)
        self.seconds = seconds


class Overloaded(QuarterdeckError):
    """Shed before any work was done; safe to retry after `Retry-After`."""

    status = 503
    default_code = "overloaded"


class NotReady(QuarterdeckError):
    """The thing exists but cannot answer yet."""

    status = 503
    default_code = "not-ready"


class PackageRefused(QuarterdeckError):
    """A package that must not be loaded; `code` says why.

    Codes: ``digest-mismatch``, ``file-missing``, ``manifest-invalid``, ``environment-mismatch``, ``variable-missing``,
    ``golden-mismatch``, ``trust-required``, ``form-unknown``, ``load-failed``, ``untrusted-types``.
    """

    status = 422
    default_code = "package-refused"


class StorageError(QuarterdeckError):
    """A store that cannot be used; `code` says why and `retryable` whether waiting may help.

    Codes: ``no-such-bucket``, ``wrong-credentials``, ``access-denied``, ``unreachable``, ``not-found``, ``store-failed``;
    ``credentials-missing``, ``ca-missing`` where the files with them are not there yet;
    ``cache-full``, ``cache-failed`` where the disk that packages are fetched to is the trouble.
    """

    status = 502
    default_code = "store-failed"

    # Retryable unless somebody knows better: a store that is given up for good needs a person, one retry too many needs none.
    def __init__(self, detail: str, *, retryable: bool = True, **named: Any) -> None:
        super().__init__(detail, **named)
        self.retryable = retryable


class NotExplainable(QuarterdeckError):
    """The model's answers cannot be split into what each feature adds to them; the detail says why."""

    status = 501
    default_code = "explain-unsupported"


class ModelFailed(QuarterdeckError):
    """The model raised, died or answered something that is not a prediction."""

    status = 500
    default_code = "model-failed"


class ValueRefused(ModelFailed):
    """A row that fits the schema, and that the model refuses: an unseen category, a null, a number that is too large.

    A failure of the model to whoever loads and proves it; the caller's own mistake at a door.
    """

    status = 422
    default_code = "value-refused"
