"""What `general_settings.entra` of config.yaml says: of which tenant's tokens callers may send
instead of a key.

The hosts that are asked and the issuers that are believed follow from here alone, and from nothing
that a token says (https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud).
"""

from typing import Annotated, Any, Literal

import msgspec

_Id = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Leeway = Annotated[int, msgspec.Meta(ge=0, le=300)]
# A stand-in of Entra on this machine; every other host is one of Microsoft's.
_Loopback = Annotated[str, msgspec.Meta(pattern=r"^http://(localhost|127\.0\.0\.1|\[::1\]):\d{1,5}$")]

# Where a cloud's tokens come from, and who their issuer is in the older form, version 1.0.
_CLOUDS = {
    "public": ("https://login.microsoftonline.com", "https://sts.windows.net"),
    "government": ("https://login.microsoftonline.us", "https://sts.windows.net"),
    "china": ("https://login.partner.microsoftonline.cn", "https://sts.chinacloudapi.cn"),
}


class Entra(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`tenant`: the only directory whose tokens are taken, by its id. `audience`: the gateway's own
    names there, of which a token has one. `accounts`: what each kind of caller gets; they are read
    in `callers.mappings`. `leeway_seconds`: by how much clocks may differ. `authority`: a stand-in
    on this machine in the place of the `cloud`. `client_id`: the app by which people sign in to the
    studio.
    """

    tenant: _Id
    audience: _Name | Annotated[list[_Name], msgspec.Meta(min_length=1)]
    accounts: list[dict[str, Any]]
    cloud: Literal["public", "government", "china"] = "public"
    leeway_seconds: _Leeway = 60
    authority: _Loopback | None = None
    client_id: _Id | None = None

    @property
    def tenant_id(self) -> str:
        return self.tenant.lower()

    @property
    def audiences(self) -> list[str]:
        return [self.audience] if isinstance(self.audience, str) else self.audience

    @property
    def host(self) -> str:
        """The origin that is asked for the tenant's keys."""
        return self.authority or _CLOUDS[self.cloud][0]

    @property
    def issuer(self) -> str:
        """The issuer of tokens of version 2.0."""
        return f"{self.host}/{self.tenant_id}/v2.0"

    @property
    def issuers(self) -> list[str]:
        """Those of both versions: which one a token has is the choice of the app's registration."""
        older = self.authority or _CLOUDS[self.cloud][1]
        return [self.issuer, f"{older}/{self.tenant_id}/"]
