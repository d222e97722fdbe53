"""The deployer's settings: environment variables with the prefix QUARTERDECK_, read once at start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from quarterdeck.errors import InvalidInput
from quarterdeck.schema import Frozen, Name
from quarterdeck.settings import PREFIX, ProgramSettings


class Settings(ProgramSettings):
    """Each field is one variable: its name in capitals after ``QUARTERDECK_``."""

    data: Path = Field(Path(".quarterdeck"), description="Folder of the database, of the default store and of the token files.")
    name: Name = Field("local", description="Name of this instance, shown in the console.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8400, description="Port to listen on; 0 picks a free one.")
    store: str = Field(
        "", description="Store of packages and records: a folder or s3://bucket/prefix; empty: `store` in the data folder."
    )
    main_url: str = Field("http://127.0.0.1:8401", description="Base URL of the main node, as callers reach it.")
    challenger_url: str = Field(
        "http://127.0.0.1:8402", description="Base URL of the challenger node, as the main node reaches it."
    )
    token_file: Path | None = Field(None, description="File with the admin token; default: `token` in the data folder.")
    node_token_file: Path | None = Field(
        None, description="File with the token of the nodes; default: `node-token` in the data folder."
    )
    mirror_token_file: Path | None = Field(
        None, description="File with the mirroring token; default: `mirror-token` in the data folder."
    )

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.data / "deployer.db"

    @property
    def store_url(self) -> str:
        """The store to use. A folder's path is made absolute, since nodes work in folders of their own."""
        if "://" in self.store:
            return self.store
        return str((Path(self.store).expanduser() if self.store else self.data / "store").absolute())

    @property
    def allowed_hosts(self) -> frozenset[str]:
        """Host header values that are answered; anything else may be a rebound name."""
        names = {"127.0.0.1", "localhost", self._bracketed}
        return frozenset(f"{name}:{self.port}" for name in names)

    @property
    def url(self) -> str:
        """Where this program answers, as browsers write it."""
        return f"http://{self._bracketed}:{self.port}"

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
