"""The page that is served is the one that its source builds.

The page itself says from which source it was built. Whether that is true is tried in
`tests/trials/outside/test_studio.py`, which builds it again.
"""

import hashlib
import json
import re
from pathlib import Path

from tests.project.test_docs import page, table

PROJECT = Path(__file__).parents[2]
SOURCE = PROJECT / "studio"
BESIDE = ("index.html", "package.json", "package-lock.json", "sources.ts", "tsconfig.json", "vite.config.ts")


def digest_of_source() -> str:
    """As `studio/sources.ts` computes it."""
    below = [path for folder in ("public", "src") for path in (SOURCE / folder).rglob("*") if path.is_file()]
    digest = hashlib.sha256()
    for name in sorted([*BESIDE, *(path.relative_to(SOURCE).as_posix() for path in below)]):
        digest.update(f"{name}\n".encode() + (SOURCE / name).read_bytes())
    return digest.hexdigest()


def test_what_is_served_was_built_from_this_source() -> None:
    """After a change of `studio/`, `make studio-build` builds it again."""
    page = (PROJECT / "shared" / "static" / "index.html").read_text()
    assert f'name="built-from" content="{digest_of_source()}"' in page


def test_its_packages_are_pinned_by_hash_and_by_no_host() -> None:
    """The lock installs the same bytes from any registry."""
    asked = json.loads((SOURCE / "package.json").read_text())
    assert all(
        re.fullmatch(r"\d+\.\d+\.\d+", each) for kind in ("dependencies", "devDependencies") for each in asked[kind].values()
    )
    text = (SOURCE / "package-lock.json").read_text()
    assert "://" not in text
    assert all("integrity" in each for name, each in json.loads(text)["packages"].items() if name)


def test_advice_is_about_errors_that_there_are() -> None:
    """`unreachable` is the page's own: no gateway answers with it."""
    advised = set(re.findall(r"^  (\w+): \"", (SOURCE / "src" / "advice.ts").read_text(), re.MULTILINE))
    tables = [table(page("errors.md"), heading) for heading in ("code | status", "code | what happened")]
    known = {row[0].strip("`") for rows in tables for row in rows}
    assert advised
    assert advised - {"unreachable"} <= known
