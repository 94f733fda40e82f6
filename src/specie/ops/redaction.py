"""Takes secrets out of log lines before they are written.

Three nets, each enough for some mistakes: a `Secret` never shows itself; what stands under a key with a secret's name is
dropped; and text that looks like money or a key (tokens, long opaque strings, recovery words) is replaced wherever it
stands, unless its key is on the list of public names. A replaced string keeps a short digest, so that lines about the
same thing can still be found together.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from specie.ops.secret import REDACTED, Secret

__all__ = ["PUBLIC_KEYS", "redact", "redact_text"]

_SECRET_KEYS = re.compile(
    r"secret|seed|witness|preimage|passphrase|password|passwd|mnemonic|words?$|token|authorization|cookie|macaroon"
    r"|private|privkey|xprv|dsn|api_?key|sealing_key|blinding|(^|_)r$|(^|_)k$"
)

PUBLIC_KEYS = frozenset(
    {
        "keyset",
        "keyset_id",
        "pubkey",
        "version",
        "path",
        "route",
        "file",
        "data_dir",
        "url",
        "mint",
        "socket",
        "reference",
        "payment_id",
    }
)
"""Keys under which long opaque strings are public, and may be shown whole."""

_TOKEN = re.compile(r"(?i)(?<![a-z0-9])(cashu|craw|creq)([ab])[a-z0-9_=+/-]{8,}")
_PREFIXED = re.compile(r"(?i)\b(?:[xyzt]prv|nsec1|lnurl1?)[a-z0-9]{16,}")
_URL_PASSWORD = re.compile(r"(?<=://)([^/\s:@]*):([^/\s@]+)@")
_UUID = re.compile(r"(?i)\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
_OPAQUE = re.compile(r"(?<![A-Za-z0-9_+-])(?=(?:[A-Za-z_+-]*[0-9]){3})[A-Za-z0-9_+-]{32,}={0,2}")
_WORDS = re.compile(r"(?<![A-Za-z])(?:[a-z]{3,8}[ \t\n,]+){11,23}[a-z]{3,8}(?![A-Za-z])")
_MAX_DEPTH = 6
_MAX_TEXT = 8_000


def _digest(match: re.Match[str]) -> str:
    return f"[{hashlib.sha256(match.group().encode()).hexdigest()[:8]}]"


def redact_text(text: str, *, public: bool = False) -> str:
    """`text` without tokens, keys, passwords in URLs and recovery words; with `public` long opaque strings stay."""
    text = _TOKEN.sub(lambda match: f"{match[1]}{match[2]}{REDACTED}", text)
    text = _PREFIXED.sub(REDACTED, text)
    text = _URL_PASSWORD.sub(rf"\1:{REDACTED}@", text)
    if not public:
        text = _UUID.sub(_digest, text)
        text = _OPAQUE.sub(_digest, text)
        text = _WORDS.sub(REDACTED, text)
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + " [cut]"


def redact(value: Any, key: str = "", depth: int = 0) -> Any:
    """A value that may be logged under `key`: containers are copied and walked, bytes become their length."""
    if isinstance(value, Secret) or _SECRET_KEYS.search(key.lower()):
        return value if isinstance(value, bool | int | None) and not isinstance(value, Secret) else REDACTED
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    if depth >= _MAX_DEPTH:
        return "[deep]"
    if isinstance(value, Mapping):
        return {redact_text(str(name)): redact(item, str(name), depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item, key, depth + 1) for item in value]
    return redact_text(str(value), public=key in PUBLIC_KEYS)
