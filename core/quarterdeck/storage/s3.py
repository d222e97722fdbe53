"""The store in an S3 bucket: the one module that speaks to boto3, loaded when a bucket is first used.

Settings come from where every AWS tool takes them: the default credential chain, AWS_ENDPOINT_URL_S3 or
AWS_ENDPOINT_URL, AWS_REGION, AWS_CA_BUNDLE. The store's URL may name endpoint and region, never a credential. A node in a
cluster is told of files that hold credentials and authority instead (`s3_access`).
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

from quarterdeck.errors import StorageError
from quarterdeck.storage.keys import check_key, check_prefix
from quarterdeck.storage.protocol import prove
from quarterdeck.storage.s3_access import CA_HINT, CREDENTIAL_HINT, S3Files

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

T = TypeVar("T")

READ = 1 << 16
"""Most bytes taken from the socket at once."""
PART = 64 << 20
"""Objects above this many bytes are sent in parts of this size, at most 10,000 of them (640 GB)."""
# Together up to about three seconds of waiting, more than any single PUT of a manifest takes.
CONFLICT_TRIES = 6
"""How often a conditional PUT is tried that met another one in flight (409)."""

_STALE_CREDENTIALS = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken"}
_WRONG_CREDENTIALS = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "AuthFailure",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "RequestTimeTooSkewed",
    "XAdminUserNotFound",
} | _STALE_CREDENTIALS
_DENIED = {"AccessDenied", "AccessDeniedException", "AllAccessDisabled", "AccountProblem", "403", "Forbidden"}
_WRONG_REGION = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"}
_EXISTS = {"PreconditionFailed", "412"}
_RACING = {"ConditionalRequestConflict", "OperationAborted", "409"}
_ABSENT = {"NoSuchKey", "NotFound", "404"}
_TRANSIENT = {"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "TooManyRequests", "429"}

_NO_CREDENTIALS = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "ProfileNotFound",
    "TokenRetrievalError",
}
_UNUSABLE = {
    "ParamValidationError",
    "InvalidRegionError",
    "InvalidEndpointConfigurationError",
    "InvalidConfigError",
    "ConfigParseError",
}
_CREDENTIAL_HINT = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the credentials file of this process."
_AUTHORITY_HINT = "Point AWS_CA_BUNDLE to the PEM file of the authority that signed the server's certificate."


@dataclass(frozen=True)
class Patience:
    """How long a store may keep us waiting before it counts as unreachable.

    Args:
        connect: seconds for a connection.
        read: seconds without a single byte.
        tries: requests sent for one action, the first included.
        window: seconds over which a download must reach `floor`.
        floor: bytes per second below which a download is given up; what arrived is kept by whoever resumes.
    """

    connect: float = 3.0
    read: float = 10.0
    tries: int = 3
    window: float = 30.0
    floor: int = 4096


class S3Storage:
    """Objects under `prefix` in one bucket.

    Args:
        bucket: its name.
        prefix: what all keys of this store start with, without the slash at either end; may be empty.
        endpoint: base URL of the S3 server; AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL or AWS itself where empty.
        region: AWS_REGION, AWS_DEFAULT_REGION, the profile's or us-east-1 where empty.
        patience: time limits.
        files: hold credentials and authority; the client is made anew when they have changed.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint: str = "",
        region: str = "",
        patience: Patience | None = None,
        files: S3Files | None = None,
    ) -> None:
        self.bucket = bucket
        self._prefix = check_key(prefix) + "/" if prefix else ""
        self._endpoint = endpoint
        self._region = region
        self._patience = patience or Patience()
        self._files = files or S3Files()
        self._read = self._files.state()
        self._made: S3Client | None = None
        self._making = threading.Lock()
        # Legible, for people read it, but escaped where a value would otherwise end or start another one.
        query = urlencode({name: value for name, value in (("endpoint", endpoint), ("region", region)) if value}, safe=":/[]")
        self.url = f"s3://{bucket}/{prefix}".rstrip("/") + (f"?{query}" if query else "")

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """The bytes from `start` on, `length` of them at most. `StorageError` ``not-found`` where there is none."""
        return b"".join(self._chunks(key, start, length))

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        """The bytes from `start` on, as they arrive, in chunks of at most 64 KiB; a cut ends it with ``unreachable``."""
        return self._chunks(key, start, None)

    def put(self, key: str, data: bytes | Path, *, if_absent: bool = False) -> bool:
        """Store an object whole or not at all; with `if_absent`, False where the key exists (decided by the server)."""
        full = self._full(key)
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if if_absent else {}
        # A single PUT that breaks is sent again from its first byte, and S3 refuses one above 5 GB.
        if isinstance(data, Path) and data.stat().st_size > PART:
            return self._put_parts(full, data, condition)

        def send() -> None:
            if isinstance(data, Path):
                with data.open("rb") as body:
                    self._client().put_object(Bucket=self.bucket, Key=full, Body=body, **condition)
            else:
                self._client().put_object(Bucket=self.bucket, Key=full, Body=data, **condition)

        return self._conditionally(send, key, data)

    def size(self, key: str) -> int | None:
        """Bytes of one object; None where there is none.

        A listing, not HEAD: answers to HEAD have no body, so a missing bucket would look like a missing object.
        """
        full = self._full(key)
        with self._named("s3:ListBucket", key):
            found = self._client().list_objects_v2(Bucket=self.bucket, Prefix=full, MaxKeys=1).get("Contents", [])
        return found[0].get("Size", 0) if found and found[0].get("Key") == full else None

    def list(self, prefix: str) -> Iterator[str]:
        """All keys that start with `prefix`, sorted; pages are fetched as they are needed."""
        full = self._prefix + check_prefix(prefix)
        with self._named("s3:ListBucket", prefix):
            for page in self._client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=full):
                for entry in page.get("Contents", []):
                    yield entry["Key"].removeprefix(self._prefix)

    def delete(self, key: str) -> None:
        """Remove one object; no error where there is none."""
        full = self._full(key)
        with self._named("s3:DeleteObject", key):
            self._client().delete_object(Bucket=self.bucket, Key=full)

    def check(self) -> None:
        """Prove that bucket, credentials and endpoint are right and that conditional writes are honoured."""
        prove(self)

    def _full(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _chunks(self, key: str, start: int, length: int | None) -> Iterator[bytes]:
        full = self._full(key)
        if length == 0:
            return
        end = "" if length is None else str(start + length - 1)
        # A range from 0 to the end is refused for an empty object, so a whole object is asked for without one.
        ranged: dict[str, Any] = {"Range": f"bytes={start}-{end}"} if start or end else {}
        with self._named("s3:GetObject", key):
            try:
                answer = self._client().get_object(Bucket=self.bucket, Key=full, **ranged)
            except Exception as error:
                if _code(error) in ("InvalidRange", "416"):  # `start` is at or behind the end: nothing to read
                    return
                raise
            # The raw stream, for its read1 gives what one recv brought: a trickle is noticed, and a cut loses nothing.
            body: Any = answer["Body"]
            with body as raw:
                yield from _paced(raw.read1, answer.get("ContentLength"), self._patience)

    def _put_parts(self, full: str, data: Path, condition: dict[str, Any]) -> bool:
        """A big file in parts; the condition is decided when they are put together, so the object still appears whole."""
        from botocore.exceptions import BotoCoreError, ClientError

        key = full.removeprefix(self._prefix)
        with self._named("s3:PutObject", key):
            client = self._client()
            upload = client.create_multipart_upload(Bucket=self.bucket, Key=full)["UploadId"]
            where: dict[str, Any] = {"Bucket": self.bucket, "Key": full, "UploadId": upload}
            stored = False
            try:
                parts = []
                with data.open("rb") as file:
                    for number, part in enumerate(iter(lambda: file.read(PART), b""), start=1):
                        tag = client.upload_part(**where, PartNumber=number, Body=part)["ETag"]
                        parts.append({"PartNumber": number, "ETag": tag})
                whole: Any = {"Parts": parts}
                finish = partial(client.complete_multipart_upload, **where, MultipartUpload=whole, **condition)
                stored = self._conditionally(finish, key, data)
            finally:
                if not stored:
                    # Parts of an upload that came to nothing cost money. What went wrong before is what gets told.
                    with suppress(ClientError, BotoCoreError):
                        client.abort_multipart_upload(**where)
            return stored

    def _conditionally(self, send: Callable[[], object], key: str, data: bytes | Path) -> bool:
        """Send a PUT; 412 means that the key exists, 409 that another writer is at it right now: wait a little, ask again."""
        for attempt in range(CONFLICT_TRIES):
            try:
                with self._named("s3:PutObject", key):
                    send()
                return True
            except StorageError as error:
                refusal = _code(error.__cause__)
                if refusal in _EXISTS:
                    # After a resent request the object may be our own, stored by the one whose answer was lost.
                    return _resent(error.__cause__) and self._holds(key, data)
                if refusal not in _RACING or attempt == CONFLICT_TRIES - 1:
                    raise
                time.sleep(random.uniform(0.02, 0.1) * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    def _holds(self, key: str, data: bytes | Path) -> bool:
        """Whether the stored object is exactly this."""
        with data.open("rb") if isinstance(data, Path) else BytesIO(data) as ours:
            same = all(ours.read(len(chunk)) == chunk for chunk in self.stream(key))
            return same and not ours.read(1)

    def _client(self) -> S3Client:
        """The client, made anew after credentials were refused or files were replaced: rotation needs no restart."""
        with self._making:
            # Looked at before they are read: what changes in between is found the next time.
            state = self._files.state()
            if self._made is None or state != self._read:
                self._made, self._read = self._connect(), state
            return self._made

    def _connect(self) -> S3Client:
        import boto3
        from botocore.config import Config

        credentials, authority = self._files.credentials(), self._files.verify()

        # A session of our own: boto3's default one is shared, is no friend of threads, and keeps refused credentials.
        session = boto3.session.Session()
        region = self._region or os.environ.get("AWS_REGION") or session.region_name or "us-east-1"
        config = Config(
            connect_timeout=self._patience.connect,
            read_timeout=self._patience.read,
            # "standard" resends only what is safe to resend and waits between; "legacy" waits up to a minute in all.
            retries={"total_max_attempts": self._patience.tries, "mode": "standard"},
            # Servers other than AWS are reached by host and port, where a bucket in the host name resolves to nothing.
            s3={"addressing_style": "path" if self._endpoint or _endpoint_variable() else "auto"},
            # Additional checksums only where S3 demands them: many servers refuse them, and packages carry their sha256.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            max_pool_connections=16,
        )
        access, secret, token = credentials or (None, None, None)
        return session.client(
            "s3",
            endpoint_url=self._endpoint or None,
            region_name=region,
            config=config,
            aws_access_key_id=access,
            aws_secret_access_key=secret,
            aws_session_token=token,
            verify=authority,
        )

    @contextmanager
    def _named(self, action: str, key: str) -> Iterator[None]:
        """Turn what botocore raises into an error that names bucket, endpoint and action, and never a credential."""
        from botocore.exceptions import BotoCoreError, ClientError
        from urllib3.exceptions import HTTPError

        try:
            yield
        except (ClientError, BotoCoreError, HTTPError) as error:
            found = self._explain(error, action, key)
            if found.code in ("wrong-credentials", "access-denied"):
                # Botocore reads a credentials file once; the next action starts over and reads it as it is then.
                self._made = None
            raise found from error

    def _explain(self, error: Exception, action: str, key: str) -> StorageError:
        where = f"bucket {self.bucket} at {self._endpoint or _endpoint_variable() or 'AWS'}"
        code, retryable, detail, hint = _verdict(error, where, action, key)
        # Whoever mounts files cannot set this process's variables.
        if self._files.folder and hint == _CREDENTIAL_HINT:
            hint = CREDENTIAL_HINT
        elif self._files.ca and hint == _AUTHORITY_HINT:
            hint = CA_HINT
        thing = ("object", key) if code == "not-found" else ("bucket", self.bucket)
        extra = {"action": action, "bucket": self.bucket, "endpoint": self._endpoint or _endpoint_variable()}
        return StorageError(detail, code=code, retryable=retryable, hint=hint, kind=thing[0], name=thing[1], extra=extra)


def _endpoint_variable() -> str:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def _code(error: BaseException | None) -> str:
    """S3's own code of an error; its HTTP status where it has none; empty for an error that no server sent."""
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return ""
    code = str(response.get("Error", {}).get("Code", ""))
    return code or str(response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))


def _verdict(error: Exception, where: str, action: str, key: str) -> tuple[str, bool, str, str]:
    """(code, retryable, detail, hint) of an error; messages of servers are not repeated, for some echo the access key."""
    code = _code(error)
    # No code means that no server said this: the error arose here or on the way.
    if not code:
        return _verdict_without_answer(error, where, action)
    if code == "NoSuchBucket":
        return "no-such-bucket", False, f"There is no {where}.", "Create the bucket, or correct the store's URL or endpoint."
    if code in _ABSENT:
        return "not-found", False, f"The {where} holds no object {key}.", ""
    if code == "RequestTimeTooSkewed":
        return "wrong-credentials", True, f"The {where} refused the time of a request ({action}).", "Set this machine's clock."
    if code in _WRONG_CREDENTIALS:
        detail = f"The {where} does not accept these credentials ({action}: {code})."
        return "wrong-credentials", code in _STALE_CREDENTIALS, detail, _CREDENTIAL_HINT
    if code in _DENIED:
        return "access-denied", False, f"The {where} forbids {action} to these credentials.", f"Grant {action} on the bucket."
    if code in _WRONG_REGION:
        detail = f"The {where} lies in another region ({action}: {code})."
        return "store-failed", False, detail, "Set AWS_REGION to the bucket's region."
    retryable = code in _TRANSIENT or code in _RACING or _status(error) >= 500
    return "store-failed", retryable, f"The {where} failed at {action}: {code}.", "See the S3 server's log."


def _verdict_without_answer(error: Exception, where: str, action: str) -> tuple[str, bool, str, str]:
    name = type(error).__name__
    if name in _NO_CREDENTIALS:
        detail = f"No complete credentials were found for {where} ({action})."
        return "wrong-credentials", name == "CredentialRetrievalError", detail, _CREDENTIAL_HINT
    if name == "SSLError":
        return "unreachable", True, f"The TLS certificate of {where} was not accepted ({action}).", _AUTHORITY_HINT
    if name in _UNUSABLE:
        detail = f"The settings for {where} are not usable ({action}: {name})."
        return "store-failed", False, detail, "Check AWS_REGION, AWS_ENDPOINT_URL_S3 and the AWS config file."
    hint = "Check that the server runs, the endpoint (AWS_ENDPOINT_URL_S3 or in the store's URL), and the network between."
    return "unreachable", True, f"The {where} did not answer in full ({action}: {name}).", hint


def _resent(error: BaseException | None) -> bool:
    """Whether botocore sent the request more than once."""
    response = getattr(error, "response", {})
    return bool(response.get("ResponseMetadata", {}).get("RetryAttempts", 0))


def _status(error: Exception) -> int:
    response = getattr(error, "response", {})
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _paced(read: Callable[[int], bytes], expected: int | None, patience: Patience) -> Iterator[bytes]:
    """All `expected` bytes; a server that trickles is given up, for to a socket's timeout every byte is a sign of life."""
    from botocore.exceptions import IncompleteReadError, ReadTimeoutError

    began, arrived, total = time.monotonic(), 0, 0
    while chunk := read(READ):
        arrived += len(chunk)
        total += len(chunk)
        now = time.monotonic()
        if now - began > patience.window:
            if arrived < patience.floor * patience.window:
                raise ReadTimeoutError(endpoint_url="")
            began, arrived = now, 0
        yield chunk
        # The consumer's own work between chunks is not the server's fault, so the clock starts over with the next read.
        began += time.monotonic() - now
    if expected is not None and total != expected:
        raise IncompleteReadError(actual_bytes=total, expected_bytes=expected)
