"""All dialects, by name."""

from collections.abc import Mapping

from shared.dialects.azure import Azure
from shared.dialects.dialect import Dialect
from shared.dialects.gemini import Gemini
from shared.dialects.hosted_vllm import HostedVllm
from shared.dialects.sglang import SGLang

AZURE, OPENAI, HOSTED_VLLM, SGLANG, GEMINI = Azure(), Dialect(), HostedVllm(), SGLang(), Gemini()
DIALECTS: Mapping[str, Dialect] = {each.name: each for each in (AZURE, OPENAI, HOSTED_VLLM, SGLANG, GEMINI)}
