"""What the section `gateway` of config.yaml says of exports of the tables (`exports`)."""

from typing import Annotated

import msgspec

# A token of the app goes there, so nothing but https.
_Account = Annotated[str, msgspec.Meta(pattern=r"^(own|https://[a-z0-9]([a-z0-9.-]*[a-z0-9])?/?)$")]
_Container = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9](-?[a-z0-9]){2,62}$")]


class Exports(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the table of keys and videos is exported to every day. `account`: the blob endpoint of
    a storage account (`https://NAME.blob.core.windows.net`), or `own`. `container`: one that no
    other gateway exports to. `kept`: how many exports stay.
    """

    account: _Account = "own"
    container: _Container = "exports"
    kept: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 14
