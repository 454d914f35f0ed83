"""Callers by identity against the real stack, with the official clients: the examples of
docs/identity.md as they stand.
"""

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import azure.identity
import openai
import pytest
import yaml
from azure.core.credentials import AccessToken

from tests.fakes.issuer import APP, AUDIENCE, TENANT, Issuer, issuing
from tests.fakes.stack import MASTER_KEY, Served, serving, write_config

PAGE = (Path(__file__).parents[2] / "docs" / "identity.md").read_text()
EXAMPLES = re.findall(r"<!-- run: entra -->\n```python\n(.*?)```", PAGE, re.DOTALL)


@dataclass(frozen=True)
class Tenant:
    """A gateway that takes the tokens of an issuer."""

    served: Served
    issuer: Issuer

    def person(self) -> str:
        """The token of somebody who was never here."""
        return self.issuer.token(oid=secrets.token_hex(16))

    def client(self, token: str) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.served.url}/v1", api_key=token, max_retries=0)


@pytest.fixture(scope="module")
def tenant(azurite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenant]:
    folder = tmp_path_factory.mktemp("identity")
    with issuing() as issuer:
        path = write_config(folder / "own.yaml")
        entra = {"tenant": TENANT, "audience": AUDIENCE, "authority": issuer.url}
        accounts = [{"match": {"role": "Operator"}, "admin": True}, {"match": {"app_id": APP}, "max_budget": 1}]
        path.write_text(path.read_text() + yaml.safe_dump({"general_settings": {"entra": {**entra, "accounts": accounts}}}))
        with serving(azurite, folder, environment={"GATEWAY_CONFIG": str(path)}) as served:
            yield Tenant(served, issuer)


@pytest.mark.parametrize("example", EXAMPLES, ids=["openai", "azure"])
def test_the_pages_examples_run(tenant: Tenant, monkeypatch: pytest.MonkeyPatch, example: str) -> None:
    """With a credential that the issuer of this machine gives tokens."""
    token = tenant.person()

    class Credential:
        def get_token(self, *scopes: str, **_: Any) -> AccessToken:
            assert scopes == ("api://video-gateway/.default",)
            return AccessToken(token, 4_000_000_000)

    monkeypatch.setattr(azure.identity, "DefaultAzureCredential", Credential)
    said: list[object] = []
    code = example.replace("https://gateway.example", tenant.served.url).replace('"sora-2"', f'"{tenant.served.model}"')
    exec(code, {"print": said.append})
    assert said[0] in ("queued", "in_progress", "completed", [])


def test_a_person_makes_a_video_that_nobody_else_sees(tenant: Tenant) -> None:
    """From the prompt to the end, by the client of OpenAI; the operator sees it."""
    token = tenant.person()
    with tenant.client(token) as mine, tenant.client(tenant.person()) as other:
        video = mine.videos.create_and_poll(prompt="A cat", model=tenant.served.model, seconds="4")
        assert video.status == "completed"
        assert mine.videos.download_content(video.id).read()[4:8] == b"ftyp"
        assert [each.id for each in mine.videos.list()] == [video.id]
        assert [each.id for each in other.videos.list()] == []
        with pytest.raises(openai.NotFoundError):
            other.videos.retrieve(video.id)
        for operator in (MASTER_KEY, tenant.issuer.token(roles=["Operator"], oid="someone-else")):
            with tenant.client(operator) as seeing:
                assert seeing.videos.retrieve(video.id).id == video.id


def test_a_token_of_two_hundred_groups_passes_every_limit_of_headers(tenant: Tenant) -> None:
    """So many a token may have: some 11,000 characters."""
    groups = [str(UUID(int=number)) for number in range(200)]
    with tenant.client(tenant.issuer.token(groups=groups, oid=secrets.token_hex(16))) as client:
        assert client.videos.list().data == []


def test_a_budget_and_a_bad_token_are_refused_as_with_a_key(tenant: Tenant) -> None:
    """429 and 401, in the client's own classes."""
    with tenant.client(tenant.person()) as mine, pytest.raises(openai.RateLimitError) as refused:
        for _ in range(4):
            mine.videos.create(prompt="An unlucky cat", model=tenant.served.model, seconds="12")
    assert refused.value.code == "budget_exceeded"
    with tenant.client(tenant.issuer.token(aud="api://other")) as stranger, pytest.raises(openai.AuthenticationError):
        stranger.videos.list()
