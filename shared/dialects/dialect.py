"""What a kind of server that speaks `/videos` does in its own way.

`Dialect` is OpenAI's own, which the others start from: each is a class of one small module that
says what differs. Nothing outside this folder asks which dialect it has.
"""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Ask:
    """What a create asks for; `size` is `WIDTHxHEIGHT` in pixels."""

    prompt: str
    seconds: int
    size: str


class Dialect:
    """OpenAI's own `/v1/videos`.

    `name` is LiteLLM's name of the provider, `path` what follows the server's address.
    `base_names`, `key_names` and `version_names` are the app settings that hold an address, a key
    and an `api-version` where the configuration has none. `needs_tls`: only an address of this
    machine may do without TLS. `identity`: without a key the app's own identity is used.
    """

    name: ClassVar[str] = "openai"
    meaning: ClassVar[str] = "any server that keeps to OpenAI's own dialect"
    path: ClassVar[str] = "/v1"
    base_names: ClassVar[tuple[str, ...]] = ()
    key_names: ClassVar[tuple[str, ...]] = ()
    version_names: ClassVar[tuple[str, ...]] = ()
    needs_tls: ClassVar[bool] = False
    identity: ClassVar[bool] = False

    def key_header(self, key: str) -> dict[str, str]:
        """The header that carries a deployment's key."""
        return {"authorization": f"Bearer {key}"}

    def form(self, model: str, ask: Ask) -> dict[str, str]:
        """The text parts of a create; `model` is the server's name of it. It is always a form: the
        one encoding that all servers take, with or without an image.
        """
        return {"model": model, "prompt": ask.prompt, "seconds": str(ask.seconds), "size": ask.size}
