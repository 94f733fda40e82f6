"""The address of a mint as a name: one spelling for each mint, so that keys in stores and tokens compare equal.

Host in lower case, path as it is, no slash at the end. Not here: whether the mint is there, or may be contacted.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from specie.kernel.errors import MalformedError

__all__ = ["join_url", "mint_url_checked"]

_MAX_CHARS = 2048


def mint_url_checked(text: str) -> str:
    """The normal form of a mint's URL; MalformedError unless it is http or https with a host, and nothing behind its path.

    User names and passwords, queries and fragments are refused: they have no place in a name that is passed on.
    """
    if len(text) > _MAX_CHARS or any(char <= " " or char == "\\" or not char.isprintable() for char in text):
        raise MalformedError("mint URL is too long or has a space in it")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise MalformedError("not a URL") from None
    scheme, host = parts.scheme.lower(), parts.hostname
    if scheme not in ("http", "https") or not host:
        raise MalformedError("a mint URL starts with http:// or https:// and a host")
    if "@" in parts.netloc or "?" in text or "#" in text:
        raise MalformedError("a mint URL has no user, query or fragment")
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}{'' if port is None else f':{port}'}{parts.path}".rstrip("/")


def join_url(base: str, *parts: str) -> str:
    """`base` with path segments behind it, one slash between any two."""
    return "/".join((base.rstrip("/"), *(part.strip("/") for part in parts)))
