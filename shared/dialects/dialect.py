"""What a kind of server that speaks `/videos` does in its own way.

`Dialect` is OpenAI's own, which the others start from: each is a class of one small module that
says what differs. Nothing outside this folder asks which dialect it has.
"""

from dataclasses import dataclass
from typing import ClassVar

EVERY_VARIANT = ("video", "thumbnail", "spritesheet")


@dataclass(frozen=True)
class Ask:
    """What a create asks for; `size` is `WIDTHxHEIGHT` in pixels, `video_id` the gateway's own."""

    prompt: str
    seconds: int
    size: str
    video_id: str = ""


class Dialect:
    """OpenAI's own `/v1/videos`.

    How it is reached: `name` is LiteLLM's name of the provider, `path` what follows the server's
    address. `base_names`, `key_names` and `version_names` are the app settings that hold an
    address, a key and an `api-version` where the configuration has none. `needs_tls`: only an
    address of this machine may do without TLS. `identity`: without a key the app's own identity is
    used. `probe` is a path that costs the server nothing to answer.

    What it can do: `remixes`, `lists` its jobs, deletes them (`deletes`); `stops`: deleting a
    running job stops it. `variants` are the parts of a finished video that can be fetched.

    What it tells: `tells_progress`; `tells_address`: a job may name the address of its bytes.
    `keeps_words`: it lists prompt, length and size exactly as they were sent.

    What it keeps: `forgets`: a restart forgets every job. `keeps_copies`: what is made stays on its
    disk until it is deleted. `max_running` and `creates_per_minute` are what a deployment takes
    where the configuration says nothing.
    """

    name: ClassVar[str] = "openai"
    meaning: ClassVar[str] = "any server that keeps to OpenAI's own dialect"

    path: ClassVar[str] = "/v1"
    base_names: ClassVar[tuple[str, ...]] = ()
    key_names: ClassVar[tuple[str, ...]] = ()
    version_names: ClassVar[tuple[str, ...]] = ()
    needs_tls: ClassVar[bool] = False
    identity: ClassVar[bool] = False
    probe: ClassVar[str] = "/videos"

    remixes: ClassVar[bool] = True
    lists: ClassVar[bool] = True
    deletes: ClassVar[bool] = True
    stops: ClassVar[bool] = False
    variants: ClassVar[tuple[str, ...]] = EVERY_VARIANT

    tells_progress: ClassVar[bool] = True
    tells_address: ClassVar[bool] = False
    keeps_words: ClassVar[bool] = False

    forgets: ClassVar[bool] = False
    keeps_copies: ClassVar[bool] = False
    max_running: ClassVar[int] = 2
    creates_per_minute: ClassVar[int] = 2

    def key_header(self, key: str) -> dict[str, str]:
        """The header that carries a deployment's key."""
        return {"authorization": f"Bearer {key}"}

    def form(self, model: str, ask: Ask) -> dict[str, str]:
        """The text parts of a create; `model` is the server's name of it. It is always a form: the
        one encoding that all servers take, with or without an image.
        """
        return {"model": model, "prompt": ask.prompt, "seconds": str(ask.seconds), "size": ask.size}

    def mark(self, model: str, video_id: str) -> str | None:
        """The `model` of a video's job in the server's answers, where that tells the job from all
        others; None where it does not.
        """
        del model, video_id
        return None

    def proves_refusal(self, status: int, body: bytes) -> bool:
        """Whether an answer of 5xx to a create proves that no job was made."""
        del status, body
        return False
