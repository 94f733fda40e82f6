"""A backup's file: everything the wallet knows, encrypted, opened by its words or by a passphrase. Pure.

    specie-wallet-backup 1\\n
    4 bytes   length of the header, big-endian
    header    CBOR: {"slots": [{"way": "words" | "passphrase", "key": the file's key, sealed that way}, ...]}
    body      the payload, sealed by the file's key (AES-256-GCM, `kernel.seal`); all before it is authenticated

    payload   CBOR: {"made_at": Unix seconds, "entropy": the words' entropy, "schema": {room: version},
                     "tables": {name: {"columns": [...], "rows": [[...], ...]}}}

The file's key is FRESH for each backup. `words` seals it by a key derived from the words, `passphrase` by Argon2id. As the
payload has the words' entropy, whoever opens a backup by its passphrase has the whole wallet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cbor2

from specie.kernel import seal
from specie.kernel.entropy import Entropy
from specie.kernel.errors import MalformedError
from specie.wallet.errors import BackupLockedError, BackupMalformedError
from specie.wallet.merge import Tables

__all__ = ["MOST_BYTES", "Snapshot", "backup_ways", "open_backup", "seal_backup"]

MOST_BYTES = 256 * 1024 * 1024
"""Largest backup, either way."""

_MAGIC_WORD = b"specie-wallet-backup "
_MAGIC = _MAGIC_WORD + b"1\n"
_SLOT = b"specie wallet backup slot 1"
_HEADER_BYTES = 4096
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A wallet at one moment. `schema`: versions of the rooms whose tables these are."""

    made_at: int
    entropy: bytes = field(repr=False)
    schema: Mapping[str, int]
    tables: Tables = field(repr=False)


def seal_backup(snapshot: Snapshot, *, words_key: bytes, passphrase: bytes | None, entropy: Entropy) -> bytes:
    """The file. BackupMalformedError if it would be larger than MOST_BYTES; RefusedError for an empty passphrase."""
    key = entropy.bytes(_KEY_BYTES)
    slots = [{"way": "words", "key": seal.seal(key, words_key, nonce=entropy.bytes(seal.NONCE_BYTES), context=_SLOT)}]
    if passphrase is not None:
        sealed = seal.seal_with_passphrase(
            key, passphrase, salt=entropy.bytes(seal.SALT_BYTES), nonce=entropy.bytes(seal.NONCE_BYTES), context=_SLOT
        )
        slots.append({"way": "passphrase", "key": sealed})
    header = cbor2.dumps({"slots": slots})
    start = _MAGIC + len(header).to_bytes(4, "big") + header
    payload = _payload(snapshot)
    if len(start) + len(payload) + 1024 > MOST_BYTES:
        raise BackupMalformedError(f"the wallet is too large for one backup ({len(payload):,} bytes)")
    return start + seal.seal(payload, key, nonce=entropy.bytes(seal.NONCE_BYTES), context=start)


def _payload(snapshot: Snapshot) -> bytes:
    tables: dict[str, Any] = {}
    for name, rows in snapshot.tables.items():
        columns = list(rows[0]) if rows else []
        tables[name] = {"columns": columns, "rows": [[row[column] for column in columns] for row in rows]}
    whole = {"made_at": snapshot.made_at, "entropy": snapshot.entropy, "schema": dict(snapshot.schema), "tables": tables}
    return bytes(cbor2.dumps(whole))


def _parts(data: bytes) -> tuple[bytes, list[tuple[str, bytes]], bytes]:
    """What is authenticated, the slots, and the body. BackupMalformedError."""
    if len(data) > MOST_BYTES:
        raise BackupMalformedError("the file is too large for a backup")
    if not data.startswith(_MAGIC):
        if data.startswith(_MAGIC_WORD):
            raise BackupMalformedError("this backup is of a later version: open it with the program that made it")
        raise BackupMalformedError("this is no backup of a wallet")
    at = len(_MAGIC) + 4
    length = int.from_bytes(data[len(_MAGIC) : at], "big")
    if length > _HEADER_BYTES or len(data) < at + length:
        raise BackupMalformedError("the backup is damaged or cut short")
    try:
        slots = [(str(slot["way"]), bytes(slot["key"])) for slot in _loaded(data[at : at + length])["slots"]]
    except (KeyError, TypeError, ValueError) as error:
        raise BackupMalformedError("the backup's header is damaged") from error
    return data[: at + length], slots, data[at + length :]


def _loaded(data: bytes) -> dict[str, Any]:
    try:
        whole = cbor2.loads(data)
    except (cbor2.CBORDecodeError, RecursionError, MemoryError, ValueError, OverflowError) as error:
        raise BackupMalformedError("the backup is damaged") from error
    if not isinstance(whole, dict):
        raise BackupMalformedError("the backup is damaged")
    return whole


def backup_ways(data: bytes) -> frozenset[str]:
    """What can open a backup: `words`, `passphrase`. BackupMalformedError for what is none."""
    return frozenset(way for way, _ in _parts(data)[1])


def open_backup(data: bytes, *, words_key: bytes | None = None, passphrase: bytes | None = None) -> Snapshot:
    """Open a backup with what is given. BackupLockedError where none of it opens it; BackupMalformedError for damage."""
    start, slots, body = _parts(data)
    key = _file_key(slots, words_key, passphrase)
    try:
        payload = seal.unseal(body, key, context=start)
    except seal.SealBrokenError:
        raise BackupMalformedError("the backup was changed or cut short") from None
    except MalformedError as error:
        raise BackupMalformedError(f"the backup is damaged: {error.detail}") from None
    return _snapshot(_loaded(payload))


def _file_key(slots: list[tuple[str, bytes]], words_key: bytes | None, passphrase: bytes | None) -> bytes:
    for way, sealed in slots:
        try:
            if way == "words" and words_key is not None:
                return seal.unseal(sealed, words_key, context=_SLOT)
            if way == "passphrase" and passphrase is not None:
                return seal.unseal_with_passphrase(sealed, passphrase, context=_SLOT)
        except seal.SealBrokenError:
            continue
        except MalformedError as error:
            raise BackupMalformedError(f"the backup's header is damaged: {error.detail}") from None
    ways = frozenset(way for way, _ in slots)
    given = [name for name, one in (("words", words_key), ("passphrase", passphrase)) if one is not None]
    if not given or not ways & set(given):
        raise BackupLockedError(f"this backup opens with {' or '.join(sorted(ways)) or 'nothing'}", ways=ways)
    raise BackupLockedError(f"this backup does not open with this {' or '.join(given)}", ways=ways)


def _snapshot(whole: dict[str, Any]) -> Snapshot:
    try:
        tables = {
            _text(name): [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
            for name, table in whole["tables"].items()
        }
        for rows in tables.values():
            for row in rows:
                _record_checked(row)
        schema = {_text(room): int(version) for room, version in whole["schema"].items()}
        return Snapshot(int(whole["made_at"]), bytes(whole["entropy"]), schema, tables)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BackupMalformedError("the backup's contents are damaged") from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a name is text")
    return value


def _record_checked(row: dict[Any, Any]) -> None:
    for name, value in row.items():
        if not (isinstance(name, str) and isinstance(value, (bytes, str, int, type(None))) and not isinstance(value, bool)):
            raise TypeError("a column holds what no column can hold")
