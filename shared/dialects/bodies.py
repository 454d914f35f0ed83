"""Reads one field of a body that may not be JSON."""

import json


def field_of(body: bytes, name: str) -> object:
    """The value of a field; None if there is none, or if the body is not a JSON object."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):  # not JSON, not unicode, or nested beyond reason
        return None
    return told.get(name) if isinstance(told, dict) else None
