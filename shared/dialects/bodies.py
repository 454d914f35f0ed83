"""One field of a JSON body, which may be anything."""

import json


def field_of(body: bytes, name: str) -> object:
    """The value of a field of a JSON object; None where it has none, or where the body is no JSON
    object.
    """
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):  # not JSON, not unicode, or nested beyond reason
        return None
    return told.get(name) if isinstance(told, dict) else None
