"""A real provider of identities for tests: dex, with one person and a password, and a browser that signs in without a window."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from urllib.parse import urljoin

import httpx

from tests.support import ROOT, eventually, free_port

CLIENT, SECRET = "quarterdeck", "a secret of both, and of nobody else"
EMAIL, PASSWORD = "anna@example.org", "correct horse battery staple"
# bcrypt of PASSWORD: dex takes nothing but a hash, of cost 10 at least.
_HASH = "$2b$10$abcdefghijklmnopqrstuuGGgFFcYeueaAql8Z7U7CnCTRw4DR77W"


@dataclass
class Identities:
    """A running provider.

    Attributes:
        issuer: as it writes itself.
        secret_file: where the client's secret lies.
    """

    issuer: str
    secret_file: Path


def binary() -> Path:
    """The provider's binary, built first where it is not there yet."""
    built = subprocess.run([ROOT / "tools/identity/build"], stdout=subprocess.PIPE, check=True, text=True)
    return Path(built.stdout.splitlines()[-1])


@contextmanager
def running(folder: Path, redirect: str) -> Iterator[Identities]:
    """A provider that sends people back to `redirect`, ended with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    issuer = f"http://127.0.0.1:{free_port()}/dex"
    secret_file = folder / "client-secret"
    secret_file.write_text(SECRET + "\n")
    person = {"email": EMAIL, "hash": _HASH, "username": "Anna Berg", "userID": "08a8684b-db88-4b73-90a9-3cd1661f5466"}
    client = {"id": CLIENT, "secret": SECRET, "name": "Quarterdeck", "redirectURIs": [redirect]}
    config = {
        "issuer": issuer,
        "storage": {"type": "memory"},
        "web": {"http": issuer.removeprefix("http://").removesuffix("/dex")},
        "oauth2": {"skipApprovalScreen": True},
        "enablePasswordDB": True,
        "staticClients": [client],
        "staticPasswords": [person],
    }
    # JSON is YAML.
    (folder / "dex.yaml").write_text(json.dumps(config))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([str(binary()), "serve", str(folder / "dex.yaml")], stdout=log, stderr=log)
    try:
        eventually(lambda: httpx.get(f"{issuer}/.well-known/openid-configuration", trust_env=False).is_success)
        yield Identities(issuer, secret_file)
    finally:
        process.terminate()
        process.wait()


def give_password(browser: httpx.Client, url: str, email: str = EMAIL, password: str = PASSWORD) -> httpx.Response:
    """Go to the provider's page, give name and password there, and follow its redirects until it leads back to us.

    Returns:
        The provider's last answer: a redirect to the address that it was told, or its own page where it refuses.
    """
    page = browser.get(url, follow_redirects=True)
    action = re.search(r'<form method="post" action="([^"]+)"', page.text)
    assert action, page.text
    answer = browser.post(urljoin(str(page.url), unescape(action.group(1))), data={"login": email, "password": password})
    while answer.is_redirect and "/login/callback" not in answer.headers["location"]:
        answer = browser.get(urljoin(str(answer.url), answer.headers["location"]))
    return answer
