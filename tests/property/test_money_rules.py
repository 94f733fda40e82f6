"""Rules of money one by one: fees, change, expiry, unlinkability, and books that balance or do not exist."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from specie.ecash import MeltRequest, MeltState, Proof, SwapRequest, fee_for, hash_to_curve
from specie.ecash import codes as refused
from specie.ecash.bdhke import blind
from specie.kernel import InvariantError, curve, split_amount
from specie.ledger import Ledger, Posting
from specie.ledger.adapters.store_sql import MIGRATIONS, SqlLedgerStore
from specie.lightning.adapters.play import Fault, PlayFaults
from specie.mint import MintSettings
from specie.storage import Transaction
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.house import House, Purse, house
from tests.support.orders import foreign_invoice
from tests.support.virtual import run_virtual

few = settings(max_examples=30)
many = settings(max_examples=200)

scalars = st.integers(1, curve.ORDER - 1)
fees = st.sampled_from([0, 1, 100, 333, 999, 1000, 1001, 2500])


def _bytes(number: int) -> bytes:
    return (number % curve.ORDER).to_bytes(32, "big")


# Unlinkability


@few
@given(y=scalars, other=scalars, r=scalars)
def test_any_blinded_message_hides_any_secret(y: int, other: int, r: int) -> None:
    """Perfect hiding: for every B_ and every other Y there is exactly one r that gives that B_, so B_ tells nothing of Y.

    Shown on points whose logarithms are known here (and to nobody where Y is a hash): r' = r + y - y'.
    """
    b_ = (y + r) % curve.ORDER
    assume(b_ and (b_ - other) % curve.ORDER)
    fitting = _bytes(b_ - other)
    seen = curve.add((curve.public_key(_bytes(y)), curve.public_key(_bytes(r))))
    assert curve.add((curve.public_key(_bytes(other)), curve.public_key(fitting))) == seen
    assert curve.subtract(seen, curve.public_key(_bytes(other))) == curve.public_key(fitting)


@few
@given(secret=st.text(max_size=40), first=scalars, second=scalars)
def test_blinding_is_one_to_one_in_its_factor(secret: str, first: int, second: int) -> None:
    """Different factors, different B_: a uniform factor gives a uniform B_, whatever the secret."""
    y = hash_to_curve(secret.encode())
    one, two = blind(secret, _bytes(first)), blind(secret, _bytes(second))
    assert (one == two) is (first == second)
    assert curve.subtract(one, y) == curve.public_key(_bytes(first))


# Fees and change


@few
@given(ppks=st.lists(fees, min_size=1, max_size=3, unique=True), pieces=st.lists(st.integers(0, 2), min_size=1, max_size=12))
def test_the_fee_at_the_mint_is_exact_and_monotonic(ppks: list[int], pieces: list[int]) -> None:
    """Over coins of several keysets: exactly one amount of outputs is taken, a coin more never costs less, order is nothing."""

    async def main() -> None:
        async with house(settings=MintSettings(input_fee_ppk=ppks[0])) as bank:
            purse, shelf = Purse(bank), []
            for ppk in ppks:
                await bank.mint.rotate_keyset("sat", input_fee_ppk=ppk)
                shelf.append([coin for _ in pieces for coin in await purse.mint(8)])
            coins = [shelf[piece % len(ppks)].pop() for piece in pieces]
            charged = [
                fee_for(bank.mint.keyset(coin.id).input_fee_ppk for coin in coins[:count]) for count in range(len(coins) + 1)
            ]
            assert charged == sorted(charged)
            assert charged[0] == 0
            rest = 8 * len(coins) - charged[-1]
            for wrong in (rest + 1, rest - 1):
                if wrong > 0:
                    with pytest.raises(refused.UnbalancedError):
                        await purse.swap(coins, split_amount(wrong, bank.keyset().keys))
            if rest > 0:
                fresh = await purse.swap(list(reversed(coins)), split_amount(rest, bank.keyset().keys))
                assert sum(coin.amount for coin in fresh) == rest
                assert (await bank.mint.audit()).total("income", "sat") == charged[-1]

    run_virtual(main())


@few
@given(
    amount=st.integers(1, 60),
    extra=st.integers(0, 60),
    blanks=st.integers(0, 8),
    ppk=fees,
    fee_msat=st.integers(0, 5000),
    own=st.booleans(),
)
def test_change_never_exceeds_what_was_overpaid(
    amount: int, extra: int, blanks: int, ppk: int, fee_msat: int, own: bool
) -> None:
    """Never negative, never more than inputs less fee, amount and what the rail took; all of it where blanks suffice."""

    async def main() -> None:
        async with house(settings=MintSettings(input_fee_ppk=ppk)) as bank:
            purse = Purse(bank)
            if own:
                from specie.ecash import MintQuoteRequest

                asked = await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", amount))
                invoice = asked.request
            else:
                invoice = await foreign_invoice(bank, amount * 1000)
            quote = await purse.melt_quote(invoice)
            coins = await purse.mint(amount + quote.fee_reserve + extra)
            fee = fee_for([ppk] * len(coins))
            outputs = purse.outputs([1] * blanks)
            bank.rail.set_faults(PlayFaults(always=Fault(fee_msat=min(fee_msat, quote.fee_reserve * 1000))))
            request = MeltRequest("bolt11", quote.quote, tuple(coins), outputs.messages)
            if extra < fee:
                with pytest.raises(refused.UnbalancedError):
                    await bank.mint.melt(request)
                return
            done = await bank.mint.melt(request)
            assert done.state is MeltState.PAID
            paid = (await bank.mint.recent_melt_quotes(1))[0].fee_paid
            assert paid is not None
            assert 0 <= paid <= quote.fee_reserve
            over = amount + quote.fee_reserve + extra - fee - amount - paid
            change = outputs.proofs(done.change or (), blank=True)
            given = sum(coin.amount for coin in change)
            assert 0 <= given <= over
            if blanks >= over.bit_length():
                assert given == over
            books = await bank.mint.audit()
            assert books.total("income", "sat") - books.total("expense", "sat") == fee + over - given

    run_virtual(main())


# Keysets


class Keysets:
    """Coins in keysets of which some end, and a clock that only goes on."""

    def __init__(self, bank: House) -> None:
        self.bank = bank
        self.purse = Purse(bank)
        self.coins: list[tuple[Proof, int | None]] = []

    async def rotate(self, life: int | None) -> None:
        expiry = None if life is None else self.bank.clock.now() + life
        await self.bank.mint.rotate_keyset("sat", final_expiry=expiry)
        self.coins += [(coin, expiry) for coin in await self.purse.mint(3)]

    async def judge(self) -> None:
        """Every coin is taken exactly while its keyset lives; what is taken becomes a coin of a keyset that lives on."""
        now = self.bank.clock.now()
        await self.bank.mint.rotate_keyset("sat")
        kept: list[tuple[Proof, int | None]] = []
        for number, (coin, expiry) in enumerate(self.coins):
            if expiry is not None and now > expiry:
                with pytest.raises(refused.KeysetExpiredError):
                    await self.purse.swap([coin], [coin.amount])
                kept.append((coin, expiry))
            elif number % 2:
                kept += [(fresh, None) for fresh in await self.purse.swap([coin], [coin.amount])]
            else:
                kept.append((coin, expiry))
        self.coins = kept


@few
@given(steps=st.lists(st.tuples(st.none() | st.integers(2, 50), st.sampled_from([-1, 0, 1, 2, 9])), min_size=1, max_size=6))
def test_rotation_preserves_spendability_until_final_expiry(steps: list[tuple[int | None, int]]) -> None:
    """Whatever is rotated when: a coin is taken until the last second of its keyset's life, and never after it."""

    async def main() -> None:
        async with house() as bank:
            world = Keysets(bank)
            for life, beyond in steps:
                await world.rotate(life)
                bank.clock.skip((life or 5) + beyond)  # around the very second at which it ends
                await world.judge()
            living = [coin for coin, expiry in world.coins if expiry is None or bank.clock.now() <= expiry]
            if living:
                assert await world.purse.swap(living, [coin.amount for coin in living])
            await bank.mint.audit()

    run_virtual(main())


@few
@given(count=st.integers(1, 6), change=st.sampled_from(["amount", "id", "secret", "C", "swap C"]), which=st.integers(0, 5))
def test_a_coin_is_good_for_one_thing_only(count: int, change: str, which: int) -> None:
    """No field of a coin can be changed or exchanged with another's: it is refused, and the good coins stay good."""

    async def main() -> None:
        async with house() as bank:
            purse = Purse(bank)
            old = bank.keyset()
            coins = [coin for _ in range(count + 1) for coin in await purse.mint(4)]
            fresh = await bank.mint.rotate_keyset("sat")
            index = which % count
            coin, other = coins[index], coins[index + 1]
            forged = {
                "amount": replace(coin, amount=8),
                "id": replace(coin, id=fresh.id),
                "secret": replace(coin, secret=coin.secret[::-1]),
                "C": replace(coin, C=curve.public_key(_bytes(which + 1))),
                "swap C": replace(coin, C=other.C),
            }[change]
            inputs = [*coins[:index], forged, *coins[index + 1 :]]
            with pytest.raises(refused.ProofInvalidError):
                await purse.swap(inputs, [4] * len(coins) if change != "amount" else [4] * len(coins) + [4])
            assert old.id != fresh.id
            assert await purse.swap(coins, [4] * len(coins))

    run_virtual(main())


# The books

accounts = st.sampled_from(
    ["asset:rail/play", "liability:deposit/bolt11", "income:input_fee", "expense:payment_fee", "equity:owner"]
)
lines = st.lists(st.tuples(accounts, st.sampled_from(["sat", "msat"]), st.integers(-(2**66), 2**66)), min_size=1, max_size=6)


def _balanced(entry: Sequence[tuple[str, str, int]]) -> list[Posting]:
    """The lines, with one more in each unit that makes them balance."""
    postings = [Posting(*line) for line in entry]
    for unit in ("sat", "msat"):
        rest = sum(line.amount for line in postings if line.unit == unit)
        postings.append(Posting("equity:owner", unit, -rest))
    return postings


@many
@given(entries=st.lists(lines, min_size=1, max_size=6), crooked=st.integers(-5, 5), shard=st.booleans())
def test_books_always_balance(entries: list[list[tuple[str, str, int]]], crooked: int, shard: bool) -> None:
    """Balanced entries of any size by two writers: sums are exact beyond 2^64; what does not balance is not written."""

    async def main() -> None:
        store = SqliteStorage(":memory:", inline=True)
        await store.migrate(MIGRATIONS)
        ledgers = [Ledger(SqlLedgerStore()), Ledger(SqlLedgerStore(shard="1" if shard else "0"))]
        wanted: dict[tuple[str, str], int] = {}
        for number, entry in enumerate(entries):
            postings = _balanced(entry)
            ledger = ledgers[number % 2]

            async def body(tx: Transaction, ledger: Ledger = ledger, postings: list[Posting] = postings) -> None:
                await ledger.post(tx, at=1, kind="test", reference="r", postings=postings)

            await store.transact(body)
            for line in postings:
                wanted[line.account, line.unit] = wanted.get((line.account, line.unit), 0) + line.amount
            if crooked:
                bent = [*postings, Posting("income:input_fee", "sat", crooked)]
                with pytest.raises(InvariantError):
                    await store.transact(lambda tx, bent=bent: ledgers[0].post(tx, at=1, kind="x", reference="", postings=bent))
        books = await store.read(ledgers[0].books)
        assert {key: value for key, value in books.balances.items() if value} == {k: v for k, v in wanted.items() if v}
        assert {sum(v for (_, of), v in books.balances.items() if of == unit) for unit in ("sat", "msat")} == {0}
        assert await store.read(ledgers[1].books) == books
        await store.close()

    run_virtual(main())


@few
@given(data=st.data(), amount=st.integers(1, 2**64 - 1))
def test_splitting_never_creates_value(data: st.DataObject, amount: int) -> None:
    """Into denominations and back it is the same amount, each part a denomination, none of them nothing."""
    denominations = sorted(
        data.draw(st.sets(st.sampled_from([1 << power for power in range(64)]), max_size=20)) | {1, 1 << 40, 1 << 63}
    )
    if amount < 2**41:
        parts = split_amount(amount % 5000 + 1, denominations)
        assert sum(parts) == amount % 5000 + 1
    else:
        parts = split_amount(amount, [1 << power for power in range(64)])
        assert sum(parts) == amount
    assert all(part > 0 and part in {1 << power for power in range(64)} for part in parts)


@few
@given(inputs=st.integers(1, 4), repeat=st.integers(0, 3))
def test_nothing_is_spent_by_naming_it_twice(inputs: int, repeat: int) -> None:
    """A coin twice in one request is refused as such, however many others there are, and stays good."""

    async def main() -> None:
        async with house() as bank:
            purse = Purse(bank)
            coins = [coin for _ in range(inputs) for coin in await purse.mint(4)]
            doubled = [*coins, coins[repeat % inputs]]
            with pytest.raises(refused.DuplicateInputsError):
                await bank.mint.swap(SwapRequest(tuple(doubled), purse.outputs([4] * len(doubled)).messages))
            assert await purse.swap(coins, [4] * inputs)

    run_virtual(main())
