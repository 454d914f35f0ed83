"""The differences between servers of `/videos`.

`Dialect` describes OpenAI's own dialect. Each other dialect is a subclass in a small module of its
own that overrides what differs. No code outside this folder asks which dialect it has.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from shared.dialects.parameters import Parameters, as_text

EVERY_VARIANT = ("video", "thumbnail", "spritesheet")


class Ask(msgspec.Struct, frozen=True):
    """A create. `size` is `WIDTHxHEIGHT` in pixels, `video_id` the gateway's own id. `parameters`
    are those of the dialect.
    """

    prompt: str
    seconds: int
    size: str
    video_id: str = ""
    parameters: Mapping[str, Any] = msgspec.field(default_factory=dict)


class Dialect:
    """OpenAI's own `/v1/videos`.

    How the server is reached: `name` is LiteLLM's name of the provider, `path` follows the server's
    address. `base_names`, `key_names` and `version_names` are the app settings with the address,
    the key and the `api-version`, if the configuration has none; `default_base` is the address if
    those have none either. `needs_tls`: plain HTTP is allowed on this machine only. `identity`:
    without a key the app's own identity is used. `probe` is a path that the server answers at no
    cost.

    What the server can do: `remixes`, `lists` its jobs, `deletes` them; `stops`: deleting a running
    job stops it. `resizes`: an image may have another size than the video. `variants` are the files
    of a finished video that can be fetched. `parameters` are those that a create takes beside
    OpenAI's own; `withheld` are others that a caller may not choose, because they name files or
    addresses. `any_size`, `lengths` in seconds and `fps` are used if neither the configuration nor
    the gateway knows the model.

    What a job shows: `tells_progress`; `tells_address`: it may have the address of its bytes.
    `tells_prompt`: it shows its prompt; False if some servers of the dialect leave it out.
    `keeps_words`: it has prompt, length and size exactly as they were sent.

    Who uses it: `shared`: other programs may make videos at the server too, as with the account of
    a cloud. An inference server is used by the gateway alone, unless the configuration says
    otherwise.

    What the server keeps: `forgets`: a restart loses every job. `keeps_copies`: finished videos
    stay on its disk until they are deleted. `max_running` and `creates_per_minute` are a
    deployment's limits if the configuration has none.
    """

    name: ClassVar[str] = "openai"
    meaning: ClassVar[str] = "any server that keeps to OpenAI's own dialect"

    path: ClassVar[str] = "/v1"
    default_base: ClassVar[str | None] = None
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
    resizes: ClassVar[bool] = False
    variants: ClassVar[tuple[str, ...]] = EVERY_VARIANT
    parameters: ClassVar[Parameters] = {}
    withheld: ClassVar[tuple[str, ...]] = ()
    any_size: ClassVar[bool] = False
    lengths: ClassVar[range | None] = None
    fps: ClassVar[int | None] = None

    tells_progress: ClassVar[bool] = True
    tells_address: ClassVar[bool] = False
    tells_prompt: ClassVar[bool] = False
    keeps_words: ClassVar[bool] = False

    shared: ClassVar[bool] = False

    forgets: ClassVar[bool] = False
    keeps_copies: ClassVar[bool] = False
    max_running: ClassVar[int] = 2
    creates_per_minute: ClassVar[int] = 2

    def key_header(self, key: str) -> dict[str, str]:
        """The header that carries a deployment's key."""
        return {"authorization": f"Bearer {key}"}

    def form(self, model: str, ask: Ask) -> dict[str, str]:
        """The text parts of a create. `model` is the server's name of it. A create is always a
        form, the one encoding that all servers take, with or without an image.
        """
        own = {"model": model, "prompt": ask.prompt, "seconds": str(ask.seconds), "size": ask.size}
        return own | texts_of(ask.parameters)

    def translated(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """A caller's fields, with the server's own fields for size and length replaced by OpenAI's.
        Raises InvalidRequest.
        """
        return dict(fields)

    def mark(self, model: str, video_id: str) -> str | None:
        """The `model` in the server's answers that identifies this video's job; None if it does
        not.
        """
        del model, video_id
        return None

    def proves_refusal(self, status: int, body: bytes) -> bool:
        """Whether a 5xx answer to a create proves that no job was made."""
        del status, body
        return False


def texts_of(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as the text parts of a form."""
    return {name: as_text(value) for name, value in parameters.items()}
