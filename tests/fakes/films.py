"""The smallest things that are real MP4s."""


def box(kind: bytes, content: bytes = b"") -> bytes:
    return (8 + len(content)).to_bytes(4, "big") + kind + content


def small_film(padding: int = 0) -> bytes:
    """The boxes every MP4 has, with `padding` bytes of media."""
    return box(b"ftyp", b"isom\0\0\2\0isomiso2") + box(b"moov", b"\0" * 32) + box(b"mdat", b"\0" * padding)
