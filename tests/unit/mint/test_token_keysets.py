"""A mint whose keysets live in a token, beside those of the seed: wallets, rotation, a token that is away, and restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from specie.app.bank import _open_token
from specie.app.keys import TokenIncompleteError
from specie.ecash import MeltState, MintQuoteRequest, MintRequest, SwapRequest
from specie.kernel import split_amount
from specie.kernel.errors import RefusedError, UnavailableError, UncertainError
from specie.keys import KeyUnknownError, TokenFullError
from specie.keys.adapters.routing import KeysetHome
from specie.keys.adapters.software import SoftwareSigner
from specie.keys.adapters.token import token_signer
from specie.keys.adapters.token_session import TokenPlace
from specie.mint import MintSettings
from specie.ops.secret import Secret
from specie.ops.settings import BankSettings, StoreSettings
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.entropy import CountingEntropy
from tests.support.house import Purse, house
from tests.support.softhsm import PIN, SoftToken, new_token, token_store
from tests.support.token_shim import ShimPackage
from tests.support.wallets import World

Homes = dict[str, Callable[[], Awaitable[KeysetHome]]]


@pytest.fixture(scope="module")
def token() -> SoftToken:
    """One token for tests whose keysets may be any; each test's mint begins at index 0 of its own unit."""
    return new_token()


@pytest.fixture
def shim() -> ShimPackage:
    token_store()
    return ShimPackage()


def homes(token: SoftToken, shim: ShimPackage) -> Homes:
    async def opened() -> KeysetHome:
        place = TokenPlace(token.module, token.label)
        return await token_signer(place, pin=lambda: PIN, entropy=CountingEntropy(), package=lambda: shim)

    return {"pkcs11": opened}


async def test_a_wallet_at_a_mint_with_both_kinds(token: SoftToken, shim: ShimPackage) -> None:
    """Minted under the seed, rotated into the token: coins of both are sent, received, swapped together and paid with."""
    async with house(homes=homes(token, shim)) as bank:
        w = World(bank)
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        assert bank.mint.info().nuts["12"] == {"supported": True}
        fresh = await bank.mint.rotate_keyset("sat", home="pkcs11")
        assert bank.mint.keyset_home(fresh.id) == "pkcs11"
        assert bank.mint.info().nuts["12"] == {"supported": False, "keysets_without": [fresh.id]}
        await w.fund(alice, 50)
        sent = await alice.send(120)
        await bob.receive(sent.text)
        quote = await bob.melt_quote(await w.foreign_invoice(60_000))
        await bob.pay(quote)
        assert (await alice.balance()).available == 30
        assert (await bob.balance()).available == 59  # the payment cost one
        await bank.mint.audit()
        back = await bank.mint.rotate_keyset("sat", home="software")
        assert bank.mint.keyset_home(back.id) == "software"
        assert bank.mint.info().nuts["12"] == {"supported": True, "keysets_without": [fresh.id]}
        await alice.receive((await bob.send(59)).text)
        assert (await alice.balance()).available == 89
        await bank.mint.audit()


async def test_the_home_stays_until_another_is_named(token: SoftToken, shim: ShimPackage) -> None:
    """A rotation, by hand or for a new fee, makes its keys where the active ones are."""
    storage = SqliteStorage(":memory:", inline=True)
    async with house(storage=storage, homes=homes(token, shim)) as bank:
        first = await bank.mint.rotate_keyset("sat", home="pkcs11")
        second = await bank.mint.rotate_keyset("sat")
        assert bank.mint.keyset_home(second.id) == "pkcs11"
        assert first.keys != second.keys
    async with house(storage=storage, homes=homes(token, shim), settings=MintSettings(input_fee_ppk=100)) as bank:
        assert bank.keyset().input_fee_ppk == 100
        assert bank.mint.keyset_home(bank.keyset().id) == "pkcs11"
        assert {one.id: one.keys for one in bank.mint.keysets()}[first.id] == first.keys
    await storage.close()


async def test_a_start_without_the_keys(token: SoftToken, shim: ShimPackage) -> None:
    """No token in the settings, another token, one that is away: the mint does not start, and makes no keys in their place."""
    storage = SqliteStorage(":memory:", inline=True)
    async with house(storage=storage, homes=homes(token, shim)) as bank:
        await bank.mint.rotate_keyset("sat", home="pkcs11")
    other = new_token()

    async def away() -> KeysetHome:
        raise UnavailableError("away")

    generated = shim.calls["generate_keypair"]
    tried: tuple[tuple[Homes | None, type[Exception]], ...] = (
        (None, RefusedError),
        ({}, KeyUnknownError),
        (homes(other, shim), KeyUnknownError),
        ({"pkcs11": away}, UnavailableError),
    )
    for given, error in tried:
        with pytest.raises(error):
            async with house(storage=storage, homes=given):
                pass
    assert shim.calls["generate_keypair"] == generated + 1  # of the trial of what the other token can do
    async with house(storage=storage, homes=homes(token, shim)) as bank:
        assert bank.mint.keyset_home(bank.keyset().id) == "pkcs11"
    await storage.close()


async def test_keys_of_another_keyset_are_noticed(shim: ShimPackage) -> None:
    """A token that has keys of the right names, but not those of the store, is refused at start."""
    storage = SqliteStorage(":memory:", inline=True)
    first, second = new_token(), new_token()
    async with house(storage=storage, homes=homes(first, shim)) as bank:
        await bank.mint.rotate_keyset("sat", home="pkcs11")
    async with house(homes=homes(second, shim)) as bank:
        await bank.mint.rotate_keyset("sat", home="pkcs11")
    with pytest.raises(RefusedError, match="are not those of keyset"):
        async with house(storage=storage, homes=homes(second, shim)):
            pass
    await storage.close()


async def test_a_rotation_that_fails_changes_nothing(shim: ShimPackage) -> None:
    """A token that is full half-way: the old keyset goes on; once there is room the same keys are completed."""
    token = new_token()
    async with house(homes=homes(token, shim)) as bank:
        before = bank.keyset()
        made = 0

        def full(real: Callable[..., Any], *given: Any, **named: Any) -> Any:
            nonlocal made
            made += 1
            if made > 5:
                raise shim.DeviceMemory
            return real(*given, **named)

        shim.hooks["generate_keypair"] = full
        with pytest.raises(TokenFullError):
            await bank.mint.rotate_keyset("sat", home="pkcs11")
        assert bank.mint.keysets() == [before]
        shim.hooks.clear()
        after = await bank.mint.rotate_keyset("sat", home="pkcs11")
        assert bank.keyset() == after
        assert len(after.keys) == 64
        with pytest.raises(KeyUnknownError):
            await bank.mint.rotate_keyset("sat", home="moon")
    async with house() as bank:
        with pytest.raises(RefusedError, match="settings name none"):
            await bank.mint.rotate_keyset("sat", home="pkcs11")


async def test_a_token_that_is_away_loses_nothing(token: SoftToken, shim: ShimPackage) -> None:
    """A swap is refused and its coins stay good; coins of the seed alone go on; all works once it is back."""
    async with house(homes=homes(token, shim)) as bank:
        purse = Purse(bank)
        old = await purse.mint(8)
        seeded = bank.keyset()
        await bank.mint.rotate_keyset("sat", home="pkcs11")

        def gone(real: Callable[..., Any], *given: Any, **named: Any) -> Any:
            raise shim.TokenNotPresent

        shim.hooks["derive_key"] = gone
        outputs = purse.outputs(split_amount(8, bank.keyset().keys))
        with pytest.raises(UnavailableError):
            await bank.mint.swap(SwapRequest(tuple(old), outputs.messages))
        shim.hooks.clear()
        await bank.mint.rotate_keyset("sat", home="software")
        shim.hooks["derive_key"] = gone
        again = purse.outputs([8])
        assert len(await bank.mint.swap(SwapRequest(tuple(old), again.messages))) == 1
        assert seeded.id != bank.keyset().id
        await bank.mint.audit()
        shim.hooks.clear()


async def test_change_of_a_payment_waits_for_the_token(token: SoftToken, shim: ShimPackage) -> None:
    """The payment is made, and the token is away when the change is signed: the quote ends, with change, when it is back."""
    storage = SqliteStorage(":memory:", inline=True)
    async with house(storage=storage, homes=homes(token, shim)) as bank:
        w, purse = World(bank), Purse(bank)
        await bank.mint.rotate_keyset("sat", home="pkcs11")
        quote = await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 100))
        await bank.pay(quote)
        outputs = purse.outputs(split_amount(100, bank.keyset().keys))
        coins = outputs.proofs(await bank.mint.issue(MintRequest("bolt11", quote.quote, outputs.messages)), proven=False)
        melt = await purse.melt_quote(await w.foreign_invoice(40_000))
        asked = 0

        def gone(real: Callable[..., Any], *given: Any, **named: Any) -> Any:
            nonlocal asked
            asked += 1
            if asked > len({coin.amount for coin in coins}):  # verified, then no more
                raise shim.TokenNotPresent
            return real(*given, **named)

        shim.hooks["derive_key"] = gone
        with pytest.raises(UncertainError):
            await purse.melt(melt, coins, blanks=6)
        current = await bank.mint.melt_quote(melt.quote, "bolt11")
        assert current.state is MeltState.PENDING
        shim.hooks.clear()
    bank.clock.skip(3600)  # the lease of the process that paid is over
    async with house(storage=storage, homes=homes(token, shim), clock=bank.clock) as bank:
        ended = await bank.mint.melt_quote(melt.quote, "bolt11")
        assert ended.state is MeltState.PAID
        assert sum(one.amount for one in ended.change or ()) > 0
        await bank.mint.audit()
    await storage.close()


async def test_a_bank_of_several_processes_makes_no_keys_in_a_token() -> None:
    """Two that made keys of one name at once would spoil both, so a shared store is refused before a token is opened."""
    settings = BankSettings(store=StoreSettings(dsn=Secret("postgresql://nowhere/x")))
    main = SoftwareSigner(bytes(32), threads=0, entropy=CountingEntropy())
    with pytest.raises(RefusedError, match="one process"):
        await _open_token(settings, main)
    with pytest.raises(TokenIncompleteError):
        await _open_token(BankSettings(), main)


async def test_two_rotations_at_once_share_no_keys(token: SoftToken, shim: ShimPackage) -> None:
    """Both succeed, one after the other, with keys of their own."""
    async with house(homes=homes(token, shim)) as bank:
        made = await asyncio.gather(*(bank.mint.rotate_keyset("sat", home="pkcs11") for _ in range(2)))
        assert made[0].id != made[1].id
        assert not {*made[0].keys.values()} & {*made[1].keys.values()}
        assert sum(one.active for one in bank.mint.keysets()) == 1
