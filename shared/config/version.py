"""The version of this release.

It is also in pyproject.toml, which is not deployed; a test compares the two.
"""

VERSION = "0.9.0"
SERVER = f"azure-video-gateway/{VERSION}"
