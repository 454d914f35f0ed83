"""The dialects of the simulated server, by the names that the gateway's configuration has for
them.
"""

from local.simulator.dialects.azure import Azure
from local.simulator.dialects.dialect import Dialect
from local.simulator.dialects.gemini import Gemini
from local.simulator.dialects.hosted_vllm import HostedVllm
from local.simulator.dialects.openai import OpenAI
from local.simulator.dialects.sglang import SGLang

DIALECTS: dict[str, type[Dialect]] = {
    "azure": Azure,
    "openai": OpenAI,
    "hosted_vllm": HostedVllm,
    "sglang": SGLang,
    "gemini": Gemini,
}
