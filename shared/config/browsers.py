"""What the section `gateway` of config.yaml says of browsers: which pages may call (`cors`), and
how many calls may wait for news (`waiting`).
"""

from typing import Annotated

import msgspec

# Scheme, host and port, as a browser sends them: without a path, and without the scheme's own port.
_Origin = Annotated[str, msgspec.Meta(pattern=r"^(\*|[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:\d{1,5})?)$")]
_Calls = Annotated[int, msgspec.Meta(ge=0, le=10_000)]
_Seconds = Annotated[int, msgspec.Meta(ge=0, le=86_400)]


class Cors(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`origins`: of the pages that may call (`https://app.example.com`); `*` means any; none by
    default. `max_age_seconds`: how long a browser may remember that it may.
    """

    origins: list[_Origin] = []
    max_age_seconds: _Seconds = 7200

    def allows(self, origin: str) -> bool:
        return origin in self.origins or "*" in self.origins


class Waiting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many calls may wait at once on an instance, and how many of them for one key; 0 lets none
    wait. `longest_seconds`: until a call that waits ends; Azure cuts it off after 230.
    """

    max_calls: _Calls = 12
    max_calls_per_key: _Calls = 6
    longest_seconds: Annotated[float, msgspec.Meta(gt=0, le=220)] = 200.0
