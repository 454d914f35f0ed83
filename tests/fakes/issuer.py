"""A stand-in of Microsoft Entra ID on this machine: it publishes the keys of one tenant over HTTP,
signs tokens with them, and signs people in who come with a browser.
"""

import base64
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode

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
    lifetime: int = 3600  # seconds, of a token that a browser is given
    _challenges: dict[str, str] = field(default_factory=dict)

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

    def authorized(self, asked: Mapping[str, str]) -> str:
        """Where a browser is sent back to, whose person has signed in at once. Fails for what Entra
        would refuse.
        """
        assert asked["response_type"] == "code" and asked["response_mode"] == "fragment"
        assert asked["client_id"] == APP and asked["code_challenge_method"] == "S256"
        assert asked["scope"] == f"openid offline_access {AUDIENCE}/.default"
        code = f"code-{len(self._challenges)}"
        self._challenges[code] = asked["code_challenge"]
        return f"{asked['redirect_uri']}#{urlencode({'code': code, 'state': asked['state']})}"

    def granted(self, asked: Mapping[str, str]) -> dict[str, Any]:
        """The tokens for a code, which works once, or for a refresh token."""
        if asked["grant_type"] == "authorization_code":
            challenge = self._challenges.pop(asked["code"])
            assert encoded(sha256(asked["code_verifier"].encode()).digest()) == challenge
        else:
            assert asked["refresh_token"] == "renewal"
        token = self.token(exp=int(self.now().timestamp()) + self.lifetime)
        return {"access_token": token, "refresh_token": "renewal", "expires_in": self.lifetime, "token_type": "Bearer"}


def signed(claims: Any, signed_with: str = "first", header: Mapping[str, Any] | None = None) -> str:
    """A token with these claims, whatever they are."""
    told = {"typ": "JWT", "alg": "RS256", "kid": signed_with, **(header or {})}
    text = f"{encoded(json.dumps(told))}.{encoded(claims if isinstance(claims, bytes) else json.dumps(claims))}"
    return f"{text}.{encoded(key(signed_with).sign(text.encode(), PKCS1v15(), SHA256()))}"


def public(name: str) -> dict[str, Any]:
    """A key as Entra publishes it."""
    told: dict[str, Any] = RSAAlgorithm.to_jwk(key(name).public_key(), as_dict=True)
    return {"kty": "RSA", "use": "sig", "kid": name, "n": told["n"], "e": told["e"], "x5c": ["MIIC"]}


def encoded(part: str | bytes) -> str:
    data = part.encode() if isinstance(part, str) else part
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@contextmanager
def issuing() -> Iterator[Issuer]:
    """An issuer that listens on this machine."""
    issuer = Issuer("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            if path.endswith("/oauth2/v2.0/authorize"):
                self.say(302, issuer.authorized(dict(parse_qsl(query))).encode())
            else:
                self.say(*issuer.answer(self.path))

        def do_POST(self) -> None:
            asked = dict(parse_qsl(self.rfile.read(int(self.headers["content-length"])).decode()))
            issuer.asked.append(asked["grant_type"])
            self.say(200, json.dumps(issuer.granted(asked)).encode())

        def say(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("access-control-allow-origin", "*")
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
