"""Which release this is.

pyproject.toml has the version and does not reach Azure, where only the app's own modules do. A
test compares the two.
"""

VERSION = "0.9.0"
SERVER = f"azure-video-gateway/{VERSION}"
