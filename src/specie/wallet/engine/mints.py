"""Mints and their keysets: what is believed, and what is refused.

Every keyset's id is recomputed from its keys before anything is done with it, and belongs to one mint for good: a second
mint that announces it, or a version 00 id that would share NUT-13 secrets with another one, is refused. A keyset that a
mint leaves out of its list for a moment keeps its coins; it only gets no new ones.
"""

from __future__ import annotations

from specie.ecash import wire
from specie.ecash.info import MintInfo
from specie.ecash.keyset import Keyset, KeysetInfo, verify_keyset_id
from specie.kernel.errors import MalformedError, PeerFaultError, RefusedError, UnavailableError
from specie.storage.ports import Transaction
from specie.wallet.engine.context import Context
from specie.wallet.errors import KeysetCollisionError, UnsupportedError
from specie.wallet.holding import KnownKeyset, MintRecord

__all__ = ["active_keyset", "add_mint", "fresh_keysets", "known_mint", "known_mints", "refresh"]

_DERIVATION_MODULUS = 2**31 - 1


async def known_mint(ctx: Context, mint: str) -> bool:
    """Whether the owner has added this mint."""
    return any(record.url == mint for record in await ctx.storage.read(ctx.store.mints))


async def known_mints(ctx: Context) -> set[str]:
    """The mints the owner has added. Coins may be at others: those of operations that a forced removal did not wait for."""
    return {record.url for record in await ctx.storage.read(ctx.store.mints)}


async def add_mint(ctx: Context, mint: str) -> MintRecord:
    """Trust a mint: fetch its keysets and remember it. Nothing is remembered if that fails; adding again refreshes."""
    return await refresh(ctx, mint)


async def refresh(ctx: Context, mint: str) -> MintRecord:
    """Fetch info and keysets, verify and store them in one transaction.

    KeysetCollisionError for an id that is another's, PeerFaultError for a known keyset that has changed. Keysets whose id
    cannot be verified (unknown version, wrong id) are left out and reported.
    """
    client = ctx.client(mint)
    now = ctx.clock.now()
    try:
        told = await client.info()
    except (RefusedError, PeerFaultError):
        told = MintInfo()
    if ctx.admit is not None and not await known_mint(ctx, mint):
        ctx.admit(mint, told)
    info = wire.info_to_json(told)
    listed = await client.keysets()
    stored = {known.keyset.id: known for known in await ctx.keysets(mint)}
    found: list[KnownKeyset] = []
    for entry in listed:
        keyset = await _verified(ctx, mint, entry, stored.get(entry.id))
        if keyset is not None:
            found.append(KnownKeyset(mint, keyset))

    async def body(tx: Transaction) -> MintRecord:
        old = next((record for record in await ctx.store.mints(tx) if record.url == mint), None)
        record = MintRecord(mint, info, now if old is None else old.added_at, now)
        await ctx.store.save_mint(tx, record)
        for known in found:
            if not await ctx.store.save_keyset(tx, known, _derivation(known.keyset.id)):
                raise KeysetCollisionError("the mint announces a keyset that collides with another one", peer=mint)
        await ctx.store.mark_unlisted(tx, mint, {known.keyset.id for known in found})
        return record

    record = await ctx.storage.transact(body)
    ctx.forget_keysets(mint)
    return record


async def _verified(ctx: Context, mint: str, entry: KeysetInfo, known: KnownKeyset | None) -> Keyset | None:
    """The keyset of a list's entry, with its keys and its id recomputed; None where it cannot be used."""
    if entry.unit == "auth":
        return None
    if known is not None and known.keyset.info == entry:
        return known.keyset
    if known is not None:
        keyset = Keyset(
            id=entry.id,
            unit=entry.unit,
            keys=known.keyset.keys,
            active=entry.active,
            input_fee_ppk=entry.input_fee_ppk,
            final_expiry=entry.final_expiry,
        )
        if entry.unit != known.keyset.unit:
            raise PeerFaultError("the mint changed the unit of a keyset", peer=mint)
        try:
            verify_keyset_id(keyset)
        except MalformedError:
            raise PeerFaultError("the mint changed the fee or expiry of a keyset whose id commits to it", peer=mint) from None
        return keyset
    try:
        keyset = await ctx.client(mint).keys(entry.id)
        keyset = Keyset(
            id=entry.id,
            unit=entry.unit,
            keys=keyset.keys,
            active=entry.active,
            input_fee_ppk=entry.input_fee_ppk,
            final_expiry=entry.final_expiry,
        )
        verify_keyset_id(keyset)
    except (RefusedError, PeerFaultError) as error:
        ctx.telemetry.event("wallet_keyset_unusable", mint=mint, keyset=entry.id, reason=error.detail)
        return None
    return keyset


def _derivation(keyset_id: str) -> int | None:
    """The number that a version 00 id becomes in NUT-13; two keysets with the same one would share all their secrets."""
    return int(keyset_id, 16) % _DERIVATION_MODULUS if keyset_id.startswith("00") else None


async def fresh_keysets(ctx: Context, mint: str, *, force: bool = False) -> list[KnownKeyset]:
    """The mint's keysets, refreshed if they are old or `force`; the stored ones where the mint does not answer."""
    record = await ctx.mint_record(mint)
    if force or ctx.clock.now() - record.refreshed_at >= ctx.settings.refresh_after_s:
        try:
            await refresh(ctx, mint)
        except UnavailableError:
            ctx.telemetry.event("wallet_keysets_stale", mint=mint)
    return await ctx.keysets(mint)


async def active_keyset(ctx: Context, mint: str, unit: str) -> Keyset:
    """The keyset that new coins of a unit are made for; UnsupportedError where the mint has none."""
    keyset = ctx.choose_keyset(await fresh_keysets(ctx, mint), unit)
    if keyset is None:
        keyset = ctx.choose_keyset(await fresh_keysets(ctx, mint, force=True), unit)
    if keyset is None:
        raise UnsupportedError(f"the mint has no active keyset for {unit}", nut=2)
    return keyset
