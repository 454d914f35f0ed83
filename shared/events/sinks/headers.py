"""Headers as app settings have them."""


def pairs(text: str) -> dict[str, str]:
    """`name=value,name=value`, split at the first `=`."""
    parts = (part.partition("=") for part in text.split(",") if part.strip())
    return {name.strip().lower(): value.strip() for name, _, value in parts}
