"""The configured models: their abilities, prices and deployments."""

from collections.abc import Mapping
from datetime import date

import msgspec

from shared.config.capability import Capability
from shared.dialects.dialect import Dialect
from shared.dialects.known import OPENAI
from shared.errors import InvalidRequest

AZURE_OPENAI_SCOPE = "https://cognitiveservices.azure.com/.default"
MICROS = 1_000_000  # micro-dollars in a dollar: all money is in whole micro-dollars


class Deployment(msgspec.Struct, frozen=True):
    """A deployment of one upstream resource, with its own quota.

    `model` is the upstream's name of the deployment, `base_model` its name of the model if that
    differs. Stored videos refer to `name`, so it must not change with the rest of the
    configuration. `retires` is the retirement date that the vendor has announced.

    `delete_after_saving`: the server's copy of a video is deleted once ours is stored.
    `remakes_lost_jobs`: a job that the server has lost is made once more. `upstream_queue_seconds`
    is how long a job may wait in the server's own queue; None means as long as it may run.
    `content_hosts` are hosts, besides the server's own, that it may name for the bytes of a video.
    `shared`: other programs may make videos at the resource too.
    """

    name: str
    dialect: Dialect
    model: str
    base_url: str
    api_key: str | None = None
    api_version: str | None = None
    token_scope: str = AZURE_OPENAI_SCOPE
    max_running: int = 2
    creates_per_minute: int = 2
    retires: date | None = None
    base_model: str | None = None
    delete_after_saving: bool = False
    remakes_lost_jobs: bool = False
    upstream_queue_seconds: float | None = None
    content_hosts: tuple[str, ...] = ()
    shared: bool = True

    def __repr__(self) -> str:
        return f"Deployment({self.name!r})"  # its `api_key` is a secret

    def mark(self, video_id: str) -> str | None:
        """The `model` that only this video's job has in the server's answers. None if its jobs have
        no such mark.
        """
        return self.dialect.mark(self.model, video_id)

    @property
    def known_by_size(self) -> bool:
        """Whether a job that shows no prompt can be known by its length, its size and its time: no
        other program uses the resource, and the gateway sends creates of one length and size one at
        a time.
        """
        return not (self.shared or self.dialect.tells_prompt)


class Model(msgspec.Struct, frozen=True):
    """A model name that callers use, and its deployments. `aliases` are other names for it."""

    name: str
    capability: Capability
    deployments: tuple[Deployment, ...]
    aliases: tuple[str, ...] = ()

    def deployment(self, name: str) -> Deployment | None:
        """The deployment of this name, if the model has it."""
        return next((each for each in self.deployments if each.name == name), None)

    def able(self, source: str | None) -> list[Deployment]:
        """The deployments that can make a video, in order: for a remix only the one that has its
        `source`.
        """
        return [each for each in self.deployments if source in (None, each.name)]

    @property
    def dialect(self) -> Dialect:
        """The dialect that callers' fields are translated from: that of the first deployment. All
        have the same abilities, so they take the same fields.
        """
        return self.deployments[0].dialect if self.deployments else OPENAI


class Catalog:
    """All configured models, in the order of the configuration. The first is the default."""

    def __init__(self, models: tuple[Model, ...], fallbacks: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self.models = models
        self._fallbacks = dict(fallbacks or {})
        self._by_name = {alias: model for model in reversed(models) for alias in model.aliases}
        self._by_name |= {model.name: model for model in models}

    def find(self, name: str | None) -> Model:
        """The model with this name, alias or `provider/name`; the default model for None.

        Raises InvalidRequest (`model_not_found`).
        """
        if name is None:
            return self.models[0]
        model = self.spelled(name)
        if model is None:
            known = ", ".join(each.name for each in self.models)
            raise InvalidRequest(
                f"The model is not configured here. Available models: {known}.", code="model_not_found", param="model"
            )
        return model

    def spelled(self, name: str) -> Model | None:
        """The model with this name, alias or `provider/name`; None if there is none."""
        return self._by_name.get(name)

    def fallbacks(self, model: Model) -> tuple[Model, ...]:
        """The models that may replace this one, in order of preference."""
        return tuple(self._by_name[name] for name in self._fallbacks.get(model.name, ()))

    def get(self, name: str) -> Model | None:
        """The model with exactly this name, the one that records and pools use."""
        model = self._by_name.get(name)
        return model if model is not None and model.name == name else None

    def home(self, deployment: str | None) -> Model | None:
        """The model that has this deployment now: the configuration may have moved it since a video
        was made.
        """
        return next((each for each in self.models if deployment and each.deployment(deployment)), None)

    def deployment(self, name: str | None) -> Deployment | None:
        """The deployment of this name, of any model; None if it is no longer configured."""
        home = self.home(name)
        return None if home is None or name is None else home.deployment(name)

    def neighbours(self, deployment: Deployment) -> set[str]:
        """The names under which the upstream may list jobs of the resource's other deployments,
        except this one's own names.
        """
        everything = (each for model in self.models for each in model.deployments)
        names = {name for each in everything if each.base_url == deployment.base_url for name in (each.model, each.base_model)}
        return {name for name in names if name} - {deployment.model, deployment.base_model}


_LANDSCAPE_AND_PORTRAIT = ("720x1280", "1280x720")
_HIGH_RESOLUTION = ("1024x1792", "1792x1024")
_SECONDS = (4, 8, 12)
_VEO_SECONDS = (4, 6, 8)


def _veo(hd: int, full_hd: int, uhd: int | None = None) -> Capability:
    """A model of Google's, by its prices in micro-dollars a second at 720p, 1080p and 4K."""
    sides = {"1280x720": hd, "720x1280": hd, "1920x1080": full_hd, "1080x1920": full_hd}
    prices = sides | ({"3840x2160": uhd, "2160x3840": uhd} if uhd is not None else {})
    return Capability(tuple(prices), _VEO_SECONDS, prices)


# Sizes, lengths and list prices of the models that Azure has offered. Azure accepts the high
# resolutions for sora-2 and then fails the job. The 16 and 20 seconds of OpenAI's guide never
# worked there. Google's prices are those of its paid tier in August 2026, from secondary sources.
KNOWN_MODELS: Mapping[str, Capability] = {
    "sora-2": Capability(_LANDSCAPE_AND_PORTRAIT, _SECONDS, dict.fromkeys(_LANDSCAPE_AND_PORTRAIT, 100_000)),
    "sora-2-pro": Capability(
        _LANDSCAPE_AND_PORTRAIT + _HIGH_RESOLUTION,
        _SECONDS,
        dict.fromkeys(_LANDSCAPE_AND_PORTRAIT, 300_000) | dict.fromkeys(_HIGH_RESOLUTION, 500_000),
    ),
    "sora-2-pro-high-res": Capability(_HIGH_RESOLUTION, _SECONDS, dict.fromkeys(_HIGH_RESOLUTION, 500_000)),
    "veo-3.1-generate-preview": _veo(400_000, 400_000, 600_000),
    "veo-3.1-fast-generate-preview": _veo(100_000, 120_000, 300_000),
    "veo-3.1-lite-generate-preview": _veo(50_000, 80_000),
}

# The vendors' announced shutdowns, by provider and model.
RETIREMENT_DATES: Mapping[str, date] = {
    "azure/sora-2": date(2026, 10, 15),
    "openai/sora-2": date(2026, 9, 24),
    "openai/sora-2-pro": date(2026, 9, 24),
}
