"""The deployer's settings: environment variables with the prefix QUARTERDECK_, read once at start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from quarterdeck.errors import InvalidInput
from quarterdeck.schema import Frozen, Name
from quarterdeck.settings import PREFIX
from quarterdeck.storage import S3Files
from quarterdeck_deployer.sign_in_settings import SignInSettings


class Settings(SignInSettings):
    """Each field is one variable: its name in capitals after ``QUARTERDECK_``."""

    data: Path = Field(Path(".quarterdeck"), description="Folder of the database, of the default store and of the token files.")
    name: Name = Field("local", description="Name of this instance, shown in the console.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8400, description="Port to listen on; 0 picks a free one.")
    urls: str = Field(
        "",
        description="Further addresses under which it is reached, with commas between: `https://models.example.org`. "
        "The first is shown as the console's; requests to other names are refused.",
    )
    database: str = Field(
        "",
        repr=False,
        description="`postgresql://user@host:5432/name`, parameters of libpq such as `sslmode` behind a `?`; empty: a SQLite "
        "file in the data folder.",
    )
    database_password_file: Path | None = Field(
        None, description="File with PostgreSQL's password, in place of one in the URL; read anew for every connection."
    )
    store: str = Field(
        "", description="Store of packages and records: a folder or s3://bucket/prefix; empty: `store` in the data folder."
    )
    s3_folder: Path | None = Field(
        None,
        description="Folder with `access-key-id`, `secret-access-key` and maybe `session-token`; read anew when they change.",
    )
    s3_ca: Path | None = Field(None, description="PEM file of the S3 server's authority; read anew when it changes.")
    upload_bytes: Annotated[int, Field(ge=1)] = Field(
        4 * 2**30, description="Bytes of one file at most, of packages that are published through the API."
    )
    cluster_namespaces: Annotated[str, Field(pattern=r"^([a-z0-9-]+( *, *[a-z0-9-]+)*)?$")] = Field(
        "",
        description="Namespaces of the cluster that it runs in, with commas between: each is an infrastructure from the start, "
        "and the first stages are on the first of them.",
    )
    main_url: str = Field("http://127.0.0.1:8401", description="Base URL of the main node, as callers reach it.")
    challenger_url: str = Field(
        "http://127.0.0.1:8402", description="Base URL of the challenger node, as the main node reaches it."
    )
    gates_run_code: bool = Field(
        False,
        description="Whether gates and test queries may load packages that run code, in a process beside the deployer and with "
        "its rights; `quarterdeck up` says yes, since there everything belongs to one person.",
    )
    token_file: Path | None = Field(None, description="File with the admin token; default: `token` in the data folder.")
    node_token_file: Path | None = Field(
        None, description="File with the token of the nodes; default: `node-token` in the data folder."
    )
    mirror_token_file: Path | None = Field(
        None, description="File with the mirroring token; default: `mirror-token` in the data folder."
    )

    @field_validator("urls")
    @classmethod
    def _origins_only(cls, value: str) -> str:
        for text in _parts(value):
            url = urlsplit(text)
            bare = bool(url.netloc) and "@" not in url.netloc and text == f"{url.scheme}://{url.netloc}"
            if url.scheme not in ("http", "https") or not bare:
                raise ValueError("each address is http(s)://host or http(s)://host:port and nothing more")
        return value

    @field_validator("database")
    @classmethod
    def _postgresql_only(cls, value: str) -> str:
        # Never with the value: it may hold the password.
        if value and _postgresql(value) is None:
            raise ValueError("it is postgresql://user@host/name and parameters of libpq, or empty")
        return value

    @field_validator("database_password_file")
    @classmethod
    def _one_password(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        url = _postgresql(info.data.get("database", ""))
        if value is not None and (url is None or url.password is not None):
            raise ValueError("it goes with a postgresql:// database without a password of its own")
        return value

    @property
    def database_place(self) -> Path | URL:
        """The SQLite file, or PostgreSQL's URL."""
        return _postgresql(self.database) or self.data / "deployer.db"

    @property
    def store_url(self) -> str:
        """The store to use. A folder's path is made absolute, since nodes work in folders of their own."""
        if "://" in self.store:
            return self.store
        return str((Path(self.store).expanduser() if self.store else self.data / "store").absolute())

    @property
    def clusters(self) -> list[str]:
        """The namespaces, each once."""
        return list(dict.fromkeys(part.strip() for part in self.cluster_namespaces.split(",") if part.strip()))

    @property
    def s3_files(self) -> S3Files:
        """Where credentials and authority of the S3 server lie."""
        return S3Files(self.s3_folder, self.s3_ca)

    @property
    def allowed_hosts(self) -> frozenset[str]:
        """Host header values that are answered; anything else may be a rebound name."""
        return frozenset(urlsplit(origin).netloc for origin in self.origins)

    @property
    def origins(self) -> frozenset[str]:
        """Where the console's own forms come from, as browsers write it."""
        names = {"127.0.0.1", "localhost", self._bracketed}
        return frozenset({*_parts(self.urls), *(f"http://{name}:{self.port}" for name in names)})

    def secure(self, host: str) -> bool:
        """Whether browsers that ask for this host come by https: cookies are bound to that where it is so."""
        return f"https://{host}" in self.origins and f"http://{host}" not in self.origins

    @property
    def url(self) -> str:
        """Where this program answers, as browsers write it."""
        return next(iter(_parts(self.urls)), f"http://{self._bracketed}:{self.port}")

    @property
    def _bracketed(self) -> str:
        # In addresses the colons of IPv6 would be taken for the one before the port.
        return f"[{self.host}]" if ":" in self.host else self.host


class Tokens(Frozen):
    """The three secrets of an instance, as read from their files."""

    admin: str = Field(repr=False)
    node: str = Field(repr=False)
    mirror: str = Field(repr=False)

    @classmethod
    def read(cls, settings: Settings) -> Tokens:
        """Read the token files.

        Raises:
            InvalidInput: naming the file that is missing, unreadable or too short.
        """
        return cls(
            admin=_token(settings.token_file or settings.data / "token", "TOKEN_FILE"),
            node=_token(settings.node_token_file or settings.data / "node-token", "NODE_TOKEN_FILE"),
            mirror=_token(settings.mirror_token_file or settings.data / "mirror-token", "MIRROR_TOKEN_FILE"),
        )


def _parts(urls: str) -> list[str]:
    """The addresses of a list with commas between."""
    return [part.strip().lower() for part in urls.split(",") if part.strip()]


def _postgresql(text: str) -> URL | None:
    """The URL of a database on a PostgreSQL server; None where the text is none."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        return None
    return url if url.drivername in ("postgresql", "postgres") and url.database else None


def _token(path: Path, variable: str) -> str:
    hint = f"Start with `quarterdeck up`, or write 32 random characters to a file of your own and name it in {PREFIX}{variable}."
    try:
        # Editors add a line end; nobody means it to be part of the token.
        token = path.read_text().strip()
    except OSError as error:
        reason = error.strerror or "unreadable"
        raise InvalidInput(
            f"The token file {path} cannot be read: {reason}.", code="token-unreadable", kind="file", name=path.name, hint=hint
        ) from None
    # A short token could be guessed; there is no default and no way to run without one.
    if len(token) < 32:
        raise InvalidInput(
            f"The token in {path} is shorter than 32 characters.", code="token-unreadable", kind="file", name=path.name, hint=hint
        )
    return token
