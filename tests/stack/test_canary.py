"""With `log_prompts: false` the engine keeps no prompt, and no reason that quotes one."""

import sqlite3
from pathlib import Path

from tests.fakes.stack import arm, serving, wait_for_end

PROMPT = "zeisig"


def test_the_engines_store_quotes_no_prompt(azurite: str, tmp_path: Path) -> None:
    """A video that the upstream refuses, in words that quote the prompt, which its caller sees."""
    with serving(azurite, tmp_path, log_prompts=False) as served, served.client() as client:
        arm(served.upstream, kind="status", operation="create", status=400, message=f"Not this: {PROMPT}")
        made = client.post("/v1/videos", json={"model": served.model, "prompt": f"A {PROMPT}"})
        video = wait_for_end(client, made.json()["id"])
        assert video["error"]["code"] == "upstream_rejected"
        assert PROMPT in video["error"]["message"]
        kept = everything(tmp_path / "durable.sqlite")
    assert video["id"] in kept
    assert PROMPT not in kept


def everything(path: Path) -> str:
    db = sqlite3.connect(path)
    try:
        return "\n".join(db.iterdump())
    finally:
        db.close()
