"""What the operator may write, what comes of it, and what is said where it is wrong."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config.catalog import Model
from shared.config.deployments import normalise_base
from shared.config.exports import Exports
from shared.config.settings import Settings, load
from shared.dialects.dialect import Dialect
from shared.dialects.known import AZURE, DIALECTS, OPENAI
from shared.errors import ConfigurationError, InvalidRequest

Load = Callable[..., Settings]
BASE = "https://resource.openai.azure.com"
STORAGE = "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=storage-secret"
PROJECT_FILE = str(Path(__file__).parents[3] / "config.yaml")

SEED = """
model_list:
  - model_name: azure-sora-2
    {params}:
      model: azure/sora-2
      api_key: os.environ/AZURE_OPENAI_API_KEY
      api_base: os.environ/AZURE_OPENAI_API_BASE
"""


@pytest.fixture
def configured(tmp_path: Path) -> Load:
    """Settings from a config.yaml with this text; app settings can be added, or removed
    with None.
    """

    def loaded(text: str = "", **changes: str | None) -> Settings:
        file = tmp_path / "config.yaml"
        file.write_text(text, "utf-8")
        given = {
            "GATEWAY_CONFIG": str(file),
            "AzureWebJobsStorage": STORAGE,
            "AZURE_OPENAI_API_BASE": BASE,
            "AZURE_OPENAI_API_KEY": "upstream-secret",
            "GATEWAY_MASTER_KEY": "master-secret",
            **changes,
        }
        return load({name: value for name, value in given.items() if value is not None})

    return loaded


def entry(name: str = "films", model: str = "azure/sora-2", info: str = "{}", **params: str) -> str:
    """One entry of `model_list`, in YAML's compact form."""
    more = "".join(f", {key}: {value}" for key, value in params.items())
    return f"  - {{model_name: {name}, params: {{model: {model}{more}}}, model_info: {info}}}\n"


def only_model(settings: Settings) -> Model:
    (model,) = settings.catalog.models
    return model


@pytest.mark.parametrize("params", ["params", "litellm_params"])
def test_the_file_people_already_have_works(configured: Load, params: str) -> None:
    """The documented config.yaml, under either name of its section."""
    model = only_model(configured(SEED.format(params=params)))
    (deployment,) = model.deployments
    assert model.name == "azure-sora-2"
    assert (deployment.base_url, deployment.model, deployment.dialect) == (f"{BASE}/openai/v1", "sora-2", AZURE)
    assert deployment.api_key == "upstream-secret"
    assert deployment.retires == date(2026, 10, 15)


def test_the_projects_own_file_works() -> None:
    """What is deployed can be read with the two settings that it names: every model that Azure has
    offered, each with its price and a deployment of its own.
    """
    env = {"GATEWAY_CONFIG": PROJECT_FILE, "AzureWebJobsStorage": STORAGE, "AZURE_OPENAI_API_BASE": BASE}
    models = load(env).catalog.models
    assert [model.name for model in models] == ["azure-sora-2", "azure-sora-2-pro", "azure-sora-2-pro-high-res"]
    assert [{*model.capability.prices.values()} for model in models] == [{100_000}, {300_000, 500_000}, {500_000}]
    assert len({each.name for model in models for each in model.deployments}) == 3


@pytest.mark.parametrize("base", ["AZURE_OPENAI_API_BASE", "AZURE_OPENAI_ENDPOINT", "AZURE_API_BASE"])
@pytest.mark.parametrize("key", ["AZURE_OPENAI_API_KEY", "AZURE_API_KEY"])
@pytest.mark.parametrize("text", ["", SEED.format(params="params")], ids=["no-models", "seed"])
def test_app_settings_alone_make_one_deployment(configured: Load, base: str, key: str, text: str) -> None:
    """Every name that is in use for the address and the key is understood, with a file and
    without.
    """
    env: dict[str, str | None] = {"AZURE_OPENAI_API_BASE": None, "AZURE_OPENAI_API_KEY": None}
    (deployment,) = only_model(configured(text, **{**env, base: BASE, key: "k"})).deployments
    assert (deployment.base_url, deployment.api_key, deployment.name) == (f"{BASE}/openai/v1", "k", "resource/sora-2")


def test_without_a_key_the_identity_is_used(configured: Load) -> None:
    """A key that is referred to and not set is no mistake: in Azure there is none."""
    (deployment,) = only_model(configured(SEED.format(params="params"), AZURE_OPENAI_API_KEY=None)).deployments
    assert deployment.api_key is None


@pytest.mark.parametrize("key", ["upstream-secret\n", "  upstream-secret ", "upstream-secret\r\n"])
def test_a_pasted_key_loses_its_line_end(configured: Load, key: str) -> None:
    """No header may hold one, and a create that cannot be sent would count as unclear."""
    (deployment,) = only_model(configured(AZURE_OPENAI_API_KEY=key)).deployments
    assert deployment.api_key == "upstream-secret"


def test_exports_are_off_until_they_are_asked_for(configured: Load) -> None:
    """The portal shows an account's address with a slash at its end."""
    assert configured().knobs.exports is None
    assert configured("gateway: {exports: {}}").knobs.exports == Exports("own", "exports", 14)
    told = configured("gateway: {exports: {account: 'https://a.blob.core.windows.net/'}}").knobs.exports
    assert told == Exports("https://a.blob.core.windows.net/")


def test_references_are_read_wherever_they_stand(configured: Load) -> None:
    """In any value of the file."""
    text = "general_settings: {master_key: os.environ/OPERATOR}\nmodel_list:\n" + entry(
        api_base="os.environ/ELSEWHERE", api_key="os.environ/ITS_KEY"
    )
    settings = configured(text, GATEWAY_MASTER_KEY=None, OPERATOR="o", ELSEWHERE="https://other.openai.azure.com", ITS_KEY="i")
    (deployment,) = only_model(settings).deployments
    assert (settings.master_key, deployment.api_key) == ("o", "i")
    assert deployment.base_url == "https://other.openai.azure.com/openai/v1"


REFUSED: dict[str, tuple[str, str]] = {
    "unset reference": ("general_settings: {master_key: os.environ/OPERATOR}", r"general_settings\.master_key .*OPERATOR"),
    "unset reference in a list": (
        "model_list:\n" + entry(api_key="os.environ/NOPE"),
        r"model_list\[0\]\.params\.api_key .*NOPE",
    ),
    "unknown section": ("model_lst: []", "`model_list`"),
    "unknown key of an entry": ("model_list: [{model_nam: x}]", "`model_name`"),
    "unknown parameter": ("model_list:\n" + entry(api_bas="x"), "`api_base`"),
    "unknown model_info": ("model_list:\n" + entry(info="{secnds: [4]}"), "`seconds`"),
    "a length of no seconds": ("model_list:\n" + entry(info="{seconds: [0]}"), r"model_info\.seconds must be from 1"),
    "an unknown variant": ("model_list:\n" + entry(info="{variants: [thumbnial]}"), r"variants"),
    "not a model for videos": ("model_list:\n" + entry(info="{mode: chat}"), r"model_info\.mode"),
    "unknown general setting": ("general_settings: {masterkey: x}", "`master_key`"),
    "unknown knob": ("gateway: {poll_second: 1}", "`poll_seconds`"),
    "both names of params": ("model_list: [{model_name: a, params: {model: b}, litellm_params: {model: c}}]", "litellm_params"),
    "wrong type": ("gateway: {poll_seconds: often}", r"`float`.*\$\.gateway\.poll_seconds"),
    "wrong choice": ("gateway: {delivery: redirct}", r"redirct.*\$\.gateway\.delivery"),
    "never polling": ("gateway: {poll_seconds: 0}", "poll_seconds"),
    "polling at no time": ("gateway: {poll_seconds: .nan}", "poll_seconds"),
    "endless deadline": ("gateway: {deadline_seconds: .inf}", "deadline_seconds"),
    "keeping nothing": ("gateway: {retention_days: 0}", "retention_days"),
    "URLs nobody may sign": ("gateway: {url_seconds: 604801}", "url_seconds"),
    "exports without TLS": ("gateway: {exports: {account: 'http://a.blob.core.windows.net'}}", r"gateway\.exports\.account"),
    "exports to a path": ("gateway: {exports: {account: 'https://a.blob.core.windows.net/b'}}", r"gateway\.exports\.account"),
    "unknown key of exports": ("gateway: {exports: {keep: 3}}", "`kept`"),
    "a list": ("- x", "object"),
    "not YAML": ("model_list: [", "line 1"),
    "no provider": ("model_list:\n" + entry(model="sora-2"), "azure/<model> for Azure"),
    "unknown provider": ("model_list:\n" + entry(model="bedrock/nova"), "azure/<model> for Azure"),
    "no address": ("model_list:\n" + entry(model="openai/wan-2"), "api_base"),
    "unknown model": ("model_list:\n" + entry(model="azure/mine"), r"model_info\.sizes"),
    "no price": ("model_list:\n" + entry(model="azure/mine", info="{sizes: [640x480], seconds: [5]}"), "output_cost"),
    "negative price": ("model_list:\n" + entry(info="{output_cost_per_second: -1}"), "0 or more"),
    "sizes in words": ("model_list:\n" + entry(info="{sizes: [720p]}"), "1280x720"),
    "no slots": ("model_list:\n" + entry(max_running="0"), "max_running"),
    "one place twice": ("model_list:\n" + entry() + entry(), r"model_info\.id"),
    "unlike deployments": ("model_list:\n" + entry() + entry(info="{id: b, seconds: [4]}"), "two model names"),
    "dated api-version": ("model_list:\n" + entry(api_version="2025-04-01-preview"), "2025-04-01-preview"),
    "no key for a header": ("model_list:\n" + entry(api_key='"schl\u00fcssel"'), "api_key"),
    "two lines for a key": ("model_list:\n" + entry(api_key='"a\\nb"'), "api_key"),
    "project address": ("model_list:\n" + entry(api_base="https://r.services.ai.azure.com/api/projects/p"), "/api/projects"),
    "address without TLS": ("model_list:\n" + entry(api_base="http://r.openai.azure.com"), "https"),
}


@pytest.mark.parametrize(("text", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_a_mistake_is_named(configured: Load, text: str, said: str) -> None:
    """The complaint names the setting, and what was probably meant."""
    with pytest.raises(ConfigurationError, match=said):
        configured(text)


@pytest.mark.parametrize(
    "text",
    [
        "general_settings: {master_key: file-secret: x}",
        "general_settings:\n  master_key: 'file-secret",
        "general_settings: {master_key: file-secret, masterkey: file-secret}",
        "general_settings: [file-secret]",
        "model_list:\n" + entry(api_key="[file-secret]"),
        "model_list:\n" + entry(api_key="file-secret", api_base="https://user:file-secret@host"),
        "model_list:\n" + entry(api_key="file-secret", api_base="https://host?code=file-secret"),
    ],
)
def test_no_complaint_tells_a_secret(configured: Load, text: str) -> None:
    """Complaints go to the log, and so does what they were raised from."""
    with pytest.raises(ConfigurationError) as raised:
        configured(text)
    told: BaseException | None = raised.value
    while told is not None:
        assert "secret" not in str(told)
        told = told.__cause__ or (None if told.__suppress_context__ else told.__context__)


def test_settings_can_be_printed(configured: Load) -> None:
    """Neither the storage account's key nor the operator's nor the upstream's shows."""
    settings = configured()
    assert settings.master_key == "master-secret"
    assert settings.storage.connection_string == STORAGE
    assert "secret" not in repr(settings) + repr(settings.catalog.models)


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    """A typing error in GATEWAY_CONFIG must not quietly give the defaults; nor may a folder or a
    binary file.
    """
    with pytest.raises(ConfigurationError, match=r"gone\.yaml"):
        load({"GATEWAY_CONFIG": str(tmp_path / "gone.yaml"), "AzureWebJobsStorage": STORAGE})
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"a: \xff")
    for path in (tmp_path, binary):
        with pytest.raises(ConfigurationError, match="UTF-8"):
            load({"GATEWAY_CONFIG": str(path), "AzureWebJobsStorage": STORAGE})


def test_a_guessable_master_key_is_for_laptops(configured: Load) -> None:
    """Where storage is reached with an identity, as in Azure, fewer than 16 characters are refused
    without being shown.
    """
    assert configured(GATEWAY_MASTER_KEY="sk-1234").master_key == "sk-1234"
    azure: dict[str, str | None] = {
        "AzureWebJobsStorage": None,
        "AzureWebJobsStorage__blobServiceUri": "https://b",
        "AzureWebJobsStorage__tableServiceUri": "https://t",
    }
    with pytest.raises(ConfigurationError, match="GATEWAY_MASTER_KEY") as raised:
        configured(**azure, GATEWAY_MASTER_KEY="sk-1234")
    assert "sk-1234" not in str(raised.value)
    assert configured(**azure, GATEWAY_MASTER_KEY="k" * 16).master_key == "k" * 16
    assert configured(**azure, GATEWAY_MASTER_KEY=None).master_key is None


def test_storage_is_a_connection_string_or_an_identity(configured: Load) -> None:
    """Without either the app says which settings it needs."""
    identity = {"AzureWebJobsStorage__blobServiceUri": "https://b", "AzureWebJobsStorage__tableServiceUri": "https://t"}
    identity |= {"AzureWebJobsStorage__clientId": "c", "GATEWAY_MASTER_KEY": "k" * 16}
    storage = configured("", AzureWebJobsStorage=None, **identity).storage
    assert (storage.connection_string, storage.blob_url, storage.table_url, storage.client_id) == (
        None,
        "https://b",
        "https://t",
        "c",
    )
    with pytest.raises(ConfigurationError, match="AzureWebJobsStorage__blobServiceUri"):
        configured("", AzureWebJobsStorage=None)


@pytest.mark.parametrize("host", ["resource.openai.azure.com", "resource.cognitiveservices.azure.com"])
@pytest.mark.parametrize("path", ["", "/", "/openai", "/openai/", "/openai/v1", "/openai/v1/", "/openai/v1/videos", "/v1/"])
def test_an_azure_address_may_be_spelled_in_many_ways(host: str, path: str) -> None:
    """`/openai/v1` occurs exactly once, whatever was configured."""
    assert normalise_base(f" https://{host}{path} ", AZURE) == f"https://{host}/openai/v1"


@pytest.mark.parametrize(
    ("base", "normal"),
    [
        ("http://gpu:8000", "http://gpu:8000/v1"),
        ("http://gpu:8000/v1/", "http://gpu:8000/v1"),
        ("https://host/proxy/v1/videos", "https://host/proxy/v1"),
        ("http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1"),
    ],
)
def test_any_other_server_has_its_videos_under_v1(base: str, normal: str) -> None:
    """One on a private network may do without TLS."""
    assert normalise_base(base, OPENAI) == normal


@pytest.mark.parametrize(
    "base",
    [
        "",
        "resource",
        "ftp://h",
        "https://",
        "https://[bad",
        "https://h:abc",
        "https://h:99999",
        "//h",
        "https://h?api-version=1",
    ],
)
@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_what_is_no_address_is_refused(base: str, dialect: Dialect) -> None:
    """As a mistake in the configuration, not as a crash at the first request."""
    with pytest.raises(ConfigurationError, match="api_base"):
        normalise_base(base, dialect)


PATHS = st.lists(st.sampled_from(["openai", "v1", "videos", "proxy", "", "OpenAI", "a b", "%2F"]), max_size=5).map("/".join)


@given(
    st.sampled_from(["https://h.example", "https://h:8443", "HTTPS://H.example", "http://localhost:1"]),
    PATHS,
    st.sampled_from([*DIALECTS.values()]),
)
def test_a_normal_address_stays_as_it_is(origin: str, path: str, dialect: Dialect) -> None:
    """Normalising is idempotent, and keeps the host."""
    normal = normalise_base(f"{origin}/{path}", dialect)
    assert normalise_base(normal, dialect) == normal
    assert normal.lower().startswith(origin.lower())


def test_deployments_keep_their_names_when_others_come_and_go(configured: Load) -> None:
    """Stored videos refer to them: a name follows from place and deployment, never from the
    position in the list.
    """
    east, west = entry(api_base="https://east.openai.azure.com"), entry(api_base="https://west.openai.azure.com/openai/v1/")
    named = entry(api_base="https://east.openai.azure.com", info="{id: spare}")
    local = entry(api_base="http://127.0.0.1:12345")

    def names(*entries: str) -> list[str]:
        return [each.name for each in only_model(configured("model_list:\n" + "".join(entries))).deployments]

    assert names(east, west, named, local) == ["east/sora-2", "west/sora-2", "spare", "local/sora-2"]
    assert names(west, east) == ["west/sora-2", "east/sora-2"]
    assert names(entry(api_base="http://localhost:9")) == ["local/sora-2"]


def capability(configured: Load, **given: str) -> Any:
    return only_model(configured("model_list:\n" + entry(**given))).capability


def test_known_models_need_no_table(configured: Load) -> None:
    """Sizes, seconds and list prices are built in; a deployment of another name says what it is a
    deployment of.
    """
    sora = capability(configured)
    assert (sora.sizes, sora.seconds) == (("720x1280", "1280x720"), (4, 8, 12))
    assert sora.price(8, "1280x720") == 800_000
    assert capability(configured, model="azure/my-films", info="{base_model: azure/sora-2}") == sora
    pro = capability(configured, model="azure/sora-2-pro")
    assert (pro.price(4, "720x1280"), pro.price(4, "1792x1024")) == (1_200_000, 2_000_000)


def test_a_table_of_ones_own_completes_or_replaces_the_built_in_one(configured: Load) -> None:
    """Costs are dollars in the file and whole micro-dollars inside."""
    own = capability(
        configured,
        model="openai/wan-2",
        api_base="http://gpu:8000",
        info="{sizes: [640x480], seconds: [5, 10], output_cost_per_video_per_second: 0.0123456}",
    )
    assert (own.sizes, own.seconds, own.price(10, "640x480")) == (("640x480",), (5, 10), 123_460)
    assert capability(configured, info="{seconds: [4]}").seconds == (4,)
    assert capability(configured, info="{output_cost_per_second: 0}").price(12, "720x1280") == 0


def test_a_model_is_found_under_the_names_people_use(configured: Load) -> None:
    """Its name, the provider's spelling and the bare deployment; the first in the file is the
    default.
    """
    pro = entry(name="pro", model="azure/sora-2-pro", api_base="https://p.openai.azure.com")
    catalog = configured("model_list:\n" + entry(name="my/films") + pro).catalog
    for name in (None, "my/films", "films", "azure/sora-2", "sora-2"):
        assert catalog.find(name).name == "my/films"
    assert catalog.find("azure/sora-2-pro").name == "pro"
    with pytest.raises(InvalidRequest, match=r"my/films, pro") as raised:
        catalog.find("dall-e")
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")


def test_a_vault_reference_that_was_not_resolved_is_refused() -> None:
    """Its text is known to everybody, so it must never become a key."""
    reference = "@Microsoft.KeyVault(SecretUri=https://vault.vault.azure.net/secrets/gateway-master-key)"
    with pytest.raises(ConfigurationError, match="GATEWAY_MASTER_KEY is a Key Vault reference"):
        load({"AzureWebJobsStorage": STORAGE, "AZURE_OPENAI_API_BASE": BASE, "GATEWAY_MASTER_KEY": reference})
