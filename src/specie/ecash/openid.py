"""Addresses of OpenID providers (NUT-21): which may be asked, and whose they are. Pure.

Not here: tokens, and anything that is sent.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

__all__ = ["WELL_KNOWN", "issuer_of", "may_be_asked"]

WELL_KNOWN = "/.well-known/openid-configuration"
"""End of every discovery URL (OpenID Connect Discovery §4)."""


def may_be_asked(url: str) -> bool:
    """Whether secrets may go to a URL: https with a host, or http to this machine alone."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or "@" in parts.netloc or not url.isprintable() or " " in url or "#" in url:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def issuer_of(discovery: str) -> str:
    """The issuer that a discovery URL stands for, without a slash at its end (OpenID Connect Discovery §4.1)."""
    return discovery.removesuffix(WELL_KNOWN).rstrip("/")
