"""A Content Safety resource that keeps to Microsoft's REST reference (2024-09-01): it refuses what
the real one refuses, and finds what the test has told it to.
"""

import base64
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
from PIL import Image

HOST = "safety.cognitiveservices.azure.com"
KEY = "safety-secret"
CATEGORIES = {"Hate", "SelfHarm", "Sexual", "Violence"}


@dataclass
class ContentSafetyServer:
    """`severities` maps a word to what a text with it gets; `listed` maps a word to its block list;
    `attacks` are words of an attack; `image` is what every image gets. `say` answers instead, where
    it is set. `asked` has the operation and the body of every request.
    """

    severities: dict[str, dict[str, int]] = field(default_factory=dict)
    listed: dict[str, str] = field(default_factory=dict)
    attacks: tuple[str, ...] = ()
    image: dict[str, int] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    say: Callable[[httpx.Request], httpx.Response] | None = None

    def answer(self, request: httpx.Request) -> httpx.Response | None:
        """The answer to a request; None where it is for another host."""
        if request.url.host != HOST:
            return None
        operation = request.url.path.removeprefix("/contentsafety/")
        body = json.loads(request.content)
        self.asked.append((operation, body))
        if self.say is not None:
            return self.say(request)
        if request.method != "POST" or request.url.params.get("api-version") != "2024-09-01":
            return _error(404, "ResourceNotFound")
        if request.headers.get("ocp-apim-subscription-key") != KEY:
            return _error(401, "401")
        known = {"text:analyze": self._text, "text:shieldPrompt": self._shield, "image:analyze": self._image}
        return known[operation](body) if operation in known else _error(404, "ResourceNotFound")

    def _text(self, body: dict[str, Any]) -> httpx.Response:
        text, categories = body["text"], body.get("categories", sorted(CATEGORIES))
        if not 0 < len(text) <= 10_000 or not set(categories) <= CATEGORIES:
            return _error(400, "InvalidRequestBody")
        if body.get("outputType", "FourSeverityLevels") not in ("FourSeverityLevels", "EightSeverityLevels"):
            return _error(400, "InvalidRequestBody")
        matches = [
            {"blocklistName": name, "blocklistItemId": "1", "blocklistItemText": word}
            for word, name in self.listed.items()
            if word in text and name in body.get("blocklistNames", ())
        ]
        found: dict[str, int] = {}
        for word, severities in self.severities.items():
            found |= severities if word in text else {}
        halted = matches and body.get("haltOnBlocklistHit")
        return httpx.Response(
            200, json={"blocklistsMatch": matches, "categoriesAnalysis": [] if halted else _levels(categories, found)}
        )

    def _shield(self, body: dict[str, Any]) -> httpx.Response:
        prompt = body["userPrompt"]
        if len(prompt) > 10_000 or not isinstance(body["documents"], list):
            return _error(400, "InvalidRequestBody")
        attacked = any(word in prompt for word in self.attacks)
        return httpx.Response(200, json={"userPromptAnalysis": {"attackDetected": attacked}, "documentsAnalysis": []})

    def _image(self, body: dict[str, Any]) -> httpx.Response:
        data = base64.b64decode(body["image"]["content"], validate=True)
        image = Image.open(io.BytesIO(data))
        fits = len(data) <= 4 * 1024 * 1024 and min(image.size) >= 50 and max(image.size) <= 7_200
        if not fits or body.get("outputType") != "FourSeverityLevels":
            return _error(400, "InvalidRequestBody")
        return httpx.Response(200, json={"categoriesAnalysis": _levels(body["categories"], self.image)})


def _levels(categories: list[str], found: dict[str, int]) -> list[dict[str, Any]]:
    return [{"category": each, "severity": found.get(each, 0)} for each in categories]


def _error(status: int, code: str) -> httpx.Response:
    return httpx.Response(status, json={"error": {"code": code, "message": "Refused."}})
