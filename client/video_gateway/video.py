"""A video as the functions return it: the official `Video`, read by attribute or by key."""

from collections.abc import Mapping
from typing import Any

from openai.types import Video
from pydantic import PrivateAttr

# Dollars per second of video, Azure's list prices. A gateway tells the price itself.
_PRICES = {"sora-2": 0.10, "sora-2-pro": 0.30, "sora-2-pro-high-res": 0.50}
_HIGH_RESOLUTION = ("1024x1792", "1792x1024")


class VideoObject(Video):
    """A video. `video.status`, `video["status"]` and `video.get("status")` are the same.

    `usage` has `duration_seconds`. `_hidden_params` has `response_cost` in dollars (None where it
    is not known), `additional_headers` and `request_id`.
    """

    _hidden_params: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def usage(self) -> dict[str, float]:
        """How long the video is: `{"duration_seconds": 8.0}`."""
        return {"duration_seconds": float(self.seconds or 0)}

    @property
    def ended(self) -> bool:
        """Whether the status is final."""
        return self.status not in ("queued", "in_progress")

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            raise KeyError(name)
        return getattr(self, name)

    def __contains__(self, name: object) -> bool:
        return name == "usage" or name in self.model_dump()

    def get(self, name: str, default: Any = None) -> Any:
        """The field, or the default where the video has none of that name."""
        return self[name] if name in self else default  # noqa: SIM401 - `get` itself

    def json(self, **_: Any) -> dict[str, Any]:  # type: ignore[override]
        """All fields as a dictionary."""
        return {**self.model_dump(mode="json"), "usage": self.usage}


def read_video(video: Video, headers: Mapping[str, str], *, priced: bool = False) -> VideoObject:
    """The video of an answer, with what its headers tell. `priced`: the answer is of a create."""
    read = VideoObject.construct(None, **video.to_dict(mode="python"))
    cost = headers.get("x-response-cost")
    read._hidden_params = {
        "response_cost": float(cost) if cost else _list_price(read) if priced else None,
        "request_id": headers.get("x-request-id") or headers.get("apim-request-id"),
        "additional_headers": dict(headers),
    }
    return read


def _list_price(video: VideoObject) -> float | None:
    name = "sora-2-pro-high-res" if video.size in _HIGH_RESOLUTION else str(video.model)
    price = _PRICES.get(name)
    return None if price is None else round(price * float(video.seconds or 0), 6)
