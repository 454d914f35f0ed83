"""Azure OpenAI, which serves the dialect under `/openai/v1`."""

from typing import ClassVar

from shared.dialects.dialect import Dialect


class Azure(Dialect):
    name: ClassVar[str] = "azure"
    meaning: ClassVar[str] = "Azure OpenAI"
    path: ClassVar[str] = "/openai/v1"
    base_names: ClassVar[tuple[str, ...]] = ("AZURE_OPENAI_API_BASE", "AZURE_OPENAI_ENDPOINT", "AZURE_API_BASE")
    key_names: ClassVar[tuple[str, ...]] = ("AZURE_OPENAI_API_KEY", "AZURE_API_KEY")
    version_names: ClassVar[tuple[str, ...]] = ("AZURE_API_VERSION",)
    needs_tls: ClassVar[bool] = True
    identity: ClassVar[bool] = True

    tells_prompt: ClassVar[bool] = True
    shared: ClassVar[bool] = True

    def key_header(self, key: str) -> dict[str, str]:
        return {"api-key": key}
