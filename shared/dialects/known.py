"""Every dialect there is, by its name."""

from collections.abc import Mapping

from shared.dialects.azure import Azure
from shared.dialects.dialect import Dialect

AZURE, OPENAI = Azure(), Dialect()
DIALECTS: Mapping[str, Dialect] = {each.name: each for each in (AZURE, OPENAI)}
