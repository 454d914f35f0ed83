"""A stand-in of Microsoft Entra ID on this machine: it publishes the keys of one tenant over HTTP,
and signs tokens with them.
"""

import base64
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from jwt.algorithms import RSAAlgorithm

TENANT = "11111111-2222-3333-4444-555555555555"
AUDIENCE = "api://video-gateway"
APP = "aaaaaaaa-0000-0000-0000-000000000001"
PERSON = "bbbbbbbb-0000-0000-0000-000000000001"
GROUP = "cccccccc-0000-0000-0000-000000000001"

Answer = tuple[int, bytes]


@cache
def key(name: str) -> RSAPrivateKey:
    """The private key of this name, which is generated once."""
    return generate_private_key(public_exponent=65537, key_size=1024 if name == "short" else 2048)


@dataclass
class Issuer:
    """`published` are the names of the keys that it shows. `says` answers in its place where it is
    set, from a path; `asked` are the paths that were asked for. Tokens have the time of `now`.
    """

    url: str
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    published: list[str] = field(default_factory=lambda: ["first"])
    says: Callable[[str], Answer | None] = lambda path: None
    asked: list[str] = field(default_factory=list)

    @property
    def fetches(self) -> int:
        """How often its keys were fetched, or tried to be."""
        return sum(path.endswith("openid-configuration") for path in self.asked)

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Those of a person who uses an app, in version 2.0. A claim of None is left out."""
        now = int(self.now().timestamp())
        claims = {
            "aud": AUDIENCE,
            "iss": f"{self.url}/{TENANT}/v2.0",
            "iat": now,
            "nbf": now,
            "exp": now + 3600,
            "azp": APP,
            "oid": PERSON,
            "tid": TENANT,
            "scp": "Videos.Make",
            "ver": "2.0",
            **changed,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, *, signed_with: str = "first", header: Mapping[str, Any] | None = None, **changed: Any) -> str:
        return signed(self.claims(**changed), signed_with, header)

    def answer(self, path: str) -> Answer:
        self.asked.append(path)
        if (said := self.says(path)) is not None:
            return said
        if path == f"/{TENANT}/v2.0/.well-known/openid-configuration":
            keys = f"{self.url}/{TENANT}/discovery/v2.0/keys"
            return 200, json.dumps({"issuer": f"{self.url}/{TENANT}/v2.0", "jwks_uri": keys}).encode()
        if path == f"/{TENANT}/discovery/v2.0/keys":
            return 200, json.dumps({"keys": [public(name) for name in self.published]}).encode()
        return 404, b""


def signed(claims: Any, signed_with: str = "first", header: Mapping[str, Any] | None = None) -> str:
    """A token with these claims, whatever they are."""
    told = {"typ": "JWT", "alg": "RS256", "kid": signed_with, **(header or {})}
    text = f"{encoded(json.dumps(told))}.{encoded(claims if isinstance(claims, bytes) else json.dumps(claims))}"
    return f"{text}.{encoded(key(signed_with).sign(text.encode(), PKCS1v15(), SHA256()))}"


def public(name: str) -> dict[str, Any]:
    """A key as Entra publishes it."""
    told: dict[str, Any] = RSAAlgorithm.to_jwk(key(name).public_key(), as_dict=True)
    return {"kty": "RSA", "use": "sig", "kid": name, "n": told["n"], "e": told["e"], "x5c": ["MIIC"], "issuer": "https://x"}


def encoded(part: str | bytes) -> str:
    data = part.encode() if isinstance(part, str) else part
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@contextmanager
def issuing() -> Iterator[Issuer]:
    """An issuer that listens on this machine."""
    issuer = Issuer("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = issuer.answer(self.path)
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            if status == 302:
                self.send_header("location", body.decode())
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    issuer.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield issuer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
