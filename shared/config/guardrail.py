"""The entries of the section `guardrails` of config.yaml, in LiteLLM's shape."""

from typing import Annotated, Literal, get_args

import msgspec

Category = Literal["Hate", "SelfHarm", "Sexual", "Violence"]
Mode = Literal["pre_call", "post_call", "during_call", "logging_only"]
_Severity = Annotated[int, msgspec.Meta(ge=1, le=7)]
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
_Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._ -]{1,64}$")]  # it stands in the records of videos

ADDRESS_NAMES = ("CONTENT_SAFETY_ENDPOINT", "AZURE_GUARDRAIL_API_BASE")  # the second is that of LiteLLM's pages
KEY_NAMES = ("CONTENT_SAFETY_KEY", "AZURE_GUARDRAIL_API_KEY")


class BlockedWord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A word or phrase that no prompt may hold."""

    keyword: _Text
    action: Literal["BLOCK"] = "BLOCK"
    description: str | None = None


class BlockedPattern(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A regular expression that no prompt may match; `name` is told instead of it."""

    pattern: _Text
    name: _Text | None = None
    pattern_type: Literal["regex"] = "regex"
    action: Literal["BLOCK"] = "BLOCK"


class GuardrailParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a guardrail looks for. `default_on`: for every request, else for those that name it.
    `on_error`: what happens to a request while the service does not answer. A category blocks from
    its threshold on; the other keys are those of Content Safety's own requests.
    """

    guardrail: Literal[
        "azure/text_moderations", "azure/prompt_shield", "azure/image_moderations", "keywords", "litellm_content_filter"
    ]
    mode: Mode | list[Mode] = "pre_call"
    default_on: bool = False
    on_error: Literal["block", "allow"] = "block"
    api_base: str | None = None
    api_key: str | None = None
    api_version: Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d\d-\d\d(-preview)?$")] = "2024-09-01"
    categories: list[Category] = msgspec.field(default_factory=lambda: list(get_args(Category)))
    severity_threshold: _Severity = 2
    severity_threshold_by_category: dict[Category, _Severity] = {}
    blocklist_names: list[_Text] = msgspec.field(default_factory=list, name="blocklistNames")
    halt_on_blocklist_hit: bool = msgspec.field(default=False, name="haltOnBlocklistHit")
    output_type: Literal["FourSeverityLevels", "EightSeverityLevels"] = msgspec.field(
        default="FourSeverityLevels", name="outputType"
    )
    blocked_words: list[_Text | BlockedWord] = []
    patterns: list[_Text | BlockedPattern] = []

    @property
    def is_local(self) -> bool:
        """Whether it asks no service."""
        return self.guardrail in ("keywords", "litellm_content_filter")

    @property
    def words(self) -> list[str]:
        """The blocked words and phrases."""
        return [each if isinstance(each, str) else each.keyword for each in self.blocked_words]

    @property
    def expressions(self) -> dict[str, str]:
        """Name → regular expression. One without a name is called by itself."""
        told = (BlockedPattern(each) if isinstance(each, str) else each for each in self.patterns)
        return {each.name or each.pattern: each.pattern for each in told}

    @property
    def thresholds(self) -> dict[str, int]:
        """Category → the severity that it blocks from."""
        given = self.severity_threshold_by_category
        return {each: given.get(each, self.severity_threshold) for each in self.categories}


class Guardrail(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the section."""

    guardrail_name: _Name
    params: GuardrailParams
    guardrail_info: dict[str, object] = {}  # LiteLLM's own listing shows it; nothing here does
