"""A world of one bank (one or two processes), its play network and some wallets, on virtual time, where anything may die.

A seed decides everything: who does what when, which commit kills whom, what the network loses, what the rail does. After
every step the bank's books are checked; at the end the world is healed, everybody comes to rest, and every coin is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from specie.ecash import State
from specie.kernel import PaymentState, RefusedError, SpecieError, UnavailableError, UncertainError
from specie.kernel.hd import seed_from_words, words_from_entropy
from specie.keys.adapters.software import SoftwareSigner
from specie.ledger import Ledger
from specie.ledger.adapters.store_sql import SqlLedgerStore
from specie.lightning import InvoiceDraft, Network, decode_invoice, encode_invoice
from specie.lightning.adapters.play import Answer, Fault, PlayFaults, PlayRail
from specie.lightning.adapters.play_methods import play_rail
from specie.lightning.adapters.play_requests import PlayRequestRail
from specie.mint import Mint, MintSettings
from specie.mint.adapters.store_sql import SqlMintStore
from specie.storage import Body, Migration, Storage, StorageStatus
from specie.storage.adapters.sqlite import SqliteStorage
from specie.wallet import P2PK, RetryPolicy, Wallet, WalletSettings
from specie.wallet.adapters.schema import MIGRATIONS as WALLET_MIGRATIONS
from specie.wallet.adapters.store_sql import SqlWalletStore
from specie.wallet.holding import StoredProof
from tests.sim.client import SimClient
from tests.sim.depositor import CHAIN, METHODS, Depositor
from tests.support.house import MIGRATIONS, SEED, Pages
from tests.support.virtual import SeededEntropy, VirtualClock, run_virtual

T = TypeVar("T")

URL = "http://mint.sim"
WALLET_SETTINGS = WalletSettings(
    retry=RetryPolicy(attempts=3, base_s=0.05, longest_s=1.0), poll_s=0.2, longest_poll_s=2.0, payment_wait_s=20.0
)


class Killed(BaseException):
    """The process that ran this is dead; nothing of it may run on."""

    def __init__(self, life: Life) -> None:
        super().__init__(life.name)
        self.life = life


@dataclass(eq=False)
class Life:
    """One run of one process."""

    name: str
    deadliness: float = 0.0
    """Chance to die at each commit and each rail call."""
    drowsiness: float = 0.0
    """Chance to stand still for a while at each touch of the store, as a stopped or swapped-out process does."""
    alive: bool = True
    awake_at: float = 0.0
    died: asyncio.Event = field(default_factory=asyncio.Event)

    def die(self) -> None:
        """SIGKILL: from now on every touch of the world raises."""
        self.alive = False
        self.died.set()
        raise Killed(self)

    def check(self) -> None:
        """Raise if dead."""
        if not self.alive:
            raise Killed(self)


class MortalStorage:
    """A store as one process sees it; the process may die just before or just after any commit."""

    def __init__(self, inner: Storage, life: Life, rng: random.Random) -> None:
        self._inner = inner
        self._life = life
        self._rng = rng

    async def _step(self) -> None:
        """Other tasks run here, and time passes: what the real store's queue does."""
        life = self._life
        life.check()
        await asyncio.sleep(self._rng.choice((0, 0, 0.001, 0.02)))
        now = asyncio.get_running_loop().time()
        if life.drowsiness and now >= life.awake_at and self._rng.random() < life.drowsiness:
            life.awake_at = now + self._rng.uniform(5.0, 90.0)
        while (left := life.awake_at - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(left)
        life.check()

    async def transact(self, body: Body[T]) -> T:
        await self._step()
        fate = self._rng.random()
        if fate < self._life.deadliness / 2:
            self._life.die()
        result = await self._inner.transact(body)
        if fate < self._life.deadliness:
            self._life.die()
        await self._step()
        return result

    async def read(self, body: Body[T]) -> T:
        await self._step()
        return await self._inner.read(body)

    async def migrate(self, migrations: Sequence[Migration]) -> list[Migration]:
        return await self._inner.migrate(migrations)

    async def listen(self, channel: str) -> AsyncIterator[str]:
        async for notice in self._inner.listen(channel):
            self._life.check()
            yield notice

    async def backup(self, target: Path) -> None:
        await self._inner.backup(target)

    def status(self) -> StorageStatus:
        return self._inner.status()

    async def close(self) -> None:
        """The store outlives the process."""


@dataclass
class Process:
    """A running mint."""

    life: Life
    mint: Mint
    rail: PlayRail
    others: dict[str, PlayRequestRail] = field(default_factory=dict)


@dataclass
class Token:
    """A token on its way."""

    text: str
    amount: int
    taken: bool = False
    reader: Holder | None = None
    """Who alone can open it, where it is locked."""


class World:
    """See the module. `run` plays the seed; AssertionError or any error of ours is a finding."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = random.Random(f"specie {seed}")
        self.clock = VirtualClock()
        self.bank_store = SqliteStorage(":memory:", inline=True)
        self.pages = Pages()
        self.processes: list[Process | None] = [None] * self.rng.choice((1, 1, 1, 2))
        self.settings = MintSettings(
            input_fee_ppk=self.rng.choice((0, 0, 100, 1000)), pay_deadline_s=self.rng.choice((2.0, 30.0)), reconcile_every_s=5.0
        )
        self.bank_deadliness = self.rng.choice((0.0, 0.005, 0.02, 0.05))
        self.bank_drowsiness = self.rng.choice((0.0, 0.003, 0.01)) if len(self.processes) > 1 else 0.0
        self.wallet_deadliness = self.rng.choice((0.0, 0.01, 0.05))
        self.loss = self.rng.choice((0.0, 0.02, 0.1))
        self.kills = 0
        self.healed = False
        self.tokens: list[Token] = []
        self.invoices: list[str] = []
        self.log: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._names = 0
        self.payer: PlayRail
        self.depositor: Depositor | None = Depositor(self) if seed % 3 == 0 else None
        self.wallets: list[Holder] = []

    # -- processes of the bank ----------------------------------------------------------------------------------------

    async def _start_process(self, slot: int) -> None:
        """Start a mint in a slot; it may die while it starts."""
        life = Life(f"bank {slot}", 0.0 if self.healed else self.bank_deadliness)
        life.drowsiness = 0.0 if self.healed else self.bank_drowsiness
        storage = MortalStorage(self.bank_store, life, self.rng)
        self._names += 1
        entropy = SeededEntropy(f"{self.seed} bank {self._names}")
        signer = SoftwareSigner(SEED, threads=0, entropy=entropy)
        faults = PlayFaults() if self.healed else PlayFaults(on_point=lambda point: self._rail_point(life, point))
        rail = PlayRail(storage, signer, self.clock, entropy, autopay_delay_s=None, faults=faults)
        await rail.start()
        others: list[PlayRequestRail] = []
        for method in METHODS if self.depositor is not None else ():
            made = play_rail(method, storage, signer, self.clock, entropy, CHAIN, autopay_delay_s=None, faults=faults)
            assert isinstance(made, PlayRequestRail)
            await made.start()
            others.append(made)
        mint = Mint(
            settings=self.settings,
            storage=storage,
            store=SqlMintStore(),
            ledger=Ledger(SqlLedgerStore(shard=str(slot))),
            signer=signer,
            rails=[rail, *others],
            clock=self.clock,
            entropy=entropy,
            telemetry=self.pages,
            exclusive=len(self.processes) == 1,
        )
        await mint.start()
        self.processes[slot] = Process(life, mint, rail, {one.method: one for one in others})

    def _rail_point(self, life: Life, point: str) -> None:
        life.check()
        if point == "pay:begin" and life.drowsiness and self.rng.random() < 0.3:
            life.awake_at = asyncio.get_running_loop().time() + self.rng.uniform(
                20.0, 90.0
            )  # longer than a lease, at the worst moment
        if self.rng.random() < life.deadliness:
            life.die()

    async def _keep_running(self, slot: int) -> None:
        """Start the process of a slot again whenever it died, as a service manager would."""
        while True:
            try:
                await self._start_process(slot)
            except Killed:
                self.kills += 1
                await asyncio.sleep(self.rng.uniform(0.05, 1.0))
                continue
            process = self.processes[slot]
            assert process is not None
            await process.life.died.wait()
            self.kills += 1
            self.log.append(f"bank {slot} died")
            self.processes[slot] = None
            await asyncio.sleep(self.rng.uniform(0.05, 3.0))

    def alive(self) -> list[Process]:
        """Mints that take requests now."""
        return [process for process in self.processes if process is not None and process.life.alive]

    # -- the network --------------------------------------------------------------------------------------------------

    async def carry(self, deliver: Callable[[Mint], Awaitable[bytes]]) -> bytes:
        """Lose, delay, repeat; a mint that dies resets its connections."""
        await asyncio.sleep(self.rng.choice((0.001, 0.01, 0.05)))
        living = self.alive()
        fate = 1.0 if self.healed else self.rng.random()
        if not living or fate < self.loss / 3:
            raise UnavailableError("connection refused", retry_after_s=0.1)
        process = self.rng.choice(living)
        work = asyncio.ensure_future(self._worked(deliver, process))
        if fate > 1 - self.loss / 3:
            self._tasks.append(asyncio.ensure_future(self._ignored(self._worked(deliver, self.rng.choice(living)))))
        death = asyncio.ensure_future(process.life.died.wait())
        await asyncio.wait({work, death}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            self._tasks.append(asyncio.ensure_future(self._ignored(work)))
            raise UncertainError("connection reset")
        death.cancel()
        if fate < self.loss * 2 / 3:
            self._tasks.append(asyncio.ensure_future(self._ignored(work)))
            raise UncertainError("the answer was lost")
        return work.result()

    async def _worked(self, deliver: Callable[[Mint], Awaitable[bytes]], process: Process) -> bytes:
        try:
            return await deliver(process.mint)
        except Killed:
            raise UncertainError("connection reset") from None

    async def _ignored(self, work: Awaitable[object]) -> None:
        with contextlib.suppress(SpecieError, Killed):
            await work

    # -- the outside --------------------------------------------------------------------------------------------------

    async def foreign_invoice(self, amount_sat: int) -> str:
        """An invoice of somebody else; the rail may be told to misbehave for it."""
        self._names += 1
        name = f"{self.seed} foreign {self._names}"
        signer = SoftwareSigner(b"\x09" * 32, threads=0, entropy=SeededEntropy(name))
        draft = InvoiceDraft(
            network=Network.REGTEST,
            amount_msat=amount_sat * 1000 + self.rng.choice((0, 0, 500)),
            timestamp=self.clock.now(),
            payment_hash=sha256(name.encode()).digest(),
            payment_secret=sha256(b"secret" + name.encode()).digest(),
            description="",
        )

        async def sign(digest: bytes) -> tuple[bytes, int]:
            return (await signer.sign_recoverable("node", [digest]))[0]

        if not self.healed:
            for process in self.alive():
                process.rail.faults.for_payment(draft.payment_hash.hex(), self.fault())
        return await encode_invoice(draft, sign)

    def fault(self) -> Fault | None:
        """What a rail does to a payment, if anything."""
        later = self.rng.choice((0.0, 1.0, 10.0, 100.0))
        truth = self.rng.choice((PaymentState.PAID, PaymentState.FAILED))
        return self.rng.choice(
            (
                None,
                None,
                Fault.delay(later),
                Fault.fail(later),
                Fault.hang(),
                Fault.late(later, truth),
                Fault.unknown(later, truth),
                Fault(PaymentState.PENDING, answer=Answer.UNKNOWN),
                Fault.lost(truth),
                Fault.unavailable(),
                Fault.delay(later),
            )
        )

    async def pay_in(self, invoice: str) -> None:
        """Somebody pays an invoice of the bank's node."""
        await self.payer.settle(decode_invoice(invoice).payment_hash.hex())

    # -- the play -----------------------------------------------------------------------------------------------------

    async def play(self, steps: int) -> None:
        """Live, heal, count."""
        await self.bank_store.migrate(MIGRATIONS)
        entropy = SeededEntropy(f"{self.seed} payer")
        self.payer = PlayRail(
            self.bank_store, SoftwareSigner(SEED, threads=0, entropy=entropy), self.clock, entropy, autopay_delay_s=None
        )
        keepers = [asyncio.ensure_future(self._keep_running(slot)) for slot in range(len(self.processes))]
        for number in range(self.rng.choice((2, 3))):
            holder = Holder(self, number)
            await holder.open()
            self.wallets.append(holder)
        each = max(1, steps // len(self.wallets))
        lives = [holder.live(each) for holder in self.wallets]
        if self.depositor is not None:
            lives.append(self.depositor.live(steps))
        await asyncio.gather(*lives)
        await self._heal(keepers)
        await self._count()
        for keeper in keepers:
            keeper.cancel()
        for holder in self.wallets:
            await holder.inner.close()
        await self.bank_store.close()

    async def check_step(self) -> None:
        """Nothing created, nothing spent twice, payments in flight keep their inputs: at every moment, not only at the end."""
        store, ledger = SqlMintStore(), Ledger(SqlLedgerStore())
        books = await self.bank_store.read(ledger.audit)
        totals = await self.bank_store.read(store.totals)
        for keyset, (signed, spent, pending) in totals.items():
            assert (signed, spent) == (books.issued(keyset, "sat"), books.redeemed(keyset, "sat")), "books differ from coins"
            assert signed >= spent + pending, "more was claimed than issued"
        for melt in await self.bank_store.read(store.pending_melts):
            quote = melt.quote
            held = await self.bank_store.read(lambda tx, quote=quote: store.claimed_by(tx, quote))
            assert sum(proof.amount for proof in held) >= melt.amount + melt.fee_reserve, "a payment lost its inputs"

    async def _heal(self, keepers: list[asyncio.Task[None]]) -> None:
        """No more faults and deaths; hanging payments end one way or the other; everybody finishes what is open."""
        self.healed = True
        self.loss = 0.0
        for process in self.alive():
            process.life.deadliness = process.life.drowsiness = 0.0
            for rail in (process.rail, *process.others.values()):
                rail.set_faults(PlayFaults())
        while len(self.alive()) < len(self.processes):
            await asyncio.sleep(1.0)
        for melt in await self.bank_store.read(SqlMintStore().pending_melts):
            with contextlib.suppress(RefusedError):
                outside = self.depositor.outside if self.depositor is not None else {}
                payer = outside.get(melt.method, self.payer)
                await payer.resolve(melt.payment_id, self.rng.choice((PaymentState.PAID, PaymentState.FAILED)))
        await asyncio.sleep(200.0)
        if self.depositor is not None:
            await self.depositor.settle_down()
        assert not await self.bank_store.read(SqlMintStore().pending_melts), "a payment never came to its end"
        for holder in self.wallets:
            await holder.settle_down()
        for token in self.tokens:
            with contextlib.suppress(RefusedError):
                await (token.reader or self.wallets[0]).wallet.receive(token.text)
        for holder in self.wallets:
            await holder.settle_down()

    async def _count(self) -> None:
        """Every coin there should be is there, once."""
        await self.check_step()
        mint = self.alive()[0].mint
        books = await mint.audit()
        owed = sum(books.outstanding(keyset, "sat") for keyset in books.keysets("sat"))
        held = 0 if self.depositor is None else await self.depositor.held()
        ys: list[bytes] = []
        for holder in self.wallets:
            balance = await holder.wallet.balance()
            # What is still sent is a token so small that the fee eats it: nobody can redeem it, and the bank owes it.
            assert balance.total == balance.available + balance.sent, f"{holder.name} has money out of hand: {balance}"
            held += balance.total
            coins = await holder.coins()
            ys += [stored.y for stored in coins]
            if self.rng.random() < 0.2:  # secrets of coins locked to others are random: words do not know them (NUT-13)
                known = sum(stored.proof.amount for stored in coins if not stored.proof.secret.startswith("["))
                assert await holder.restored() == known, "the words do not bring everything back"
        assert len(set(ys)) == len(ys), "two wallets hold one coin"
        states = {state.state for state in await mint.check_state(ys)} if ys else set()
        assert states <= {State.UNSPENT}, "a wallet holds a spent coin"
        assert owed == held, f"the bank owes {owed}, the wallets hold {held}"
        lost = sum(record.lost for record in await mint.recent_mint_quotes(1000))
        assert books.total("expense", "sat") == books.of("expense:withdrawn_deposits", "sat") == lost
        for one in () if self.depositor is None else self.depositor.outside.values():
            assert books.of(f"asset:rail/{one.name}", "sat") * 1000 == (await one.health()).balance_msat, one.name
        deposits = books.of("liability:deposit/bolt11", "sat")
        assert deposits == 0, f"paid in and never issued: {-deposits}"
        health = await self.payer.health()
        assert health.balance_msat is not None
        assert books.of("asset:rail/play", "sat") * 1000 <= health.balance_msat, "the books claim more than the rail has"


class Holder:
    """A person with a wallet whose process may die."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.name = f"wallet {number}"
        self.rng = world.rng
        self.inner = SqliteStorage(":memory:", inline=True)
        self._words = words_from_entropy(sha256(f"{world.seed} {number}".encode()).digest()[:16])
        self.wallet: Wallet
        self._runs = 0

    def _run(self) -> None:
        """A new process on the same store."""
        self._runs += 1
        life = Life(self.name, 0.0 if self.world.healed else self.world.wallet_deadliness)
        entropy = SeededEntropy(f"{self.world.seed} {self.name} {self._runs}")
        self.wallet = Wallet(
            storage=MortalStorage(self.inner, life, self.rng),
            store=SqlWalletStore(),
            signer=SoftwareSigner(seed_from_words(self._words), threads=0, entropy=entropy),
            clients=lambda url: SimClient(url, self.world),
            clock=self.world.clock,
            entropy=entropy,
            settings=WALLET_SETTINGS,
        )

    async def open(self) -> None:
        """Migrate, and add the mint however often it takes."""
        await self.inner.migrate(WALLET_MIGRATIONS)
        self._run()
        while True:
            try:
                await self.wallet.add_mint(URL)
                return
            except (UnavailableError, UncertainError):
                await asyncio.sleep(2.0)
            except Killed:
                self._run()

    async def coins(self) -> list[StoredProof]:
        """All coins that are not spent."""
        return await self.inner.read(lambda tx: SqlWalletStore().proofs(tx))

    async def live(self, steps: int) -> None:
        """Do something, again and again; die and come back now and then."""
        verbs: list[Callable[[], Awaitable[object]]] = [
            self._mint,
            self._mint,
            self._mint,
            self._send,
            self._send,
            self._send_locked,
            self._receive,
            self._receive,
            self._receive,
            self._ask,
            self._pay_own,
            self._pay_foreign,
            self._pay_foreign,
            self._reshape,
            self._look,
            self._reclaim,
            self._bank_rotates,
        ]
        for _ in range(steps):
            verb = self.rng.choice(verbs)
            try:
                await verb()
            except SpecieError as error:
                self.world.log.append(f"{self.name} {verb.__name__}: {type(error).__name__}: {error.detail}")
            except Killed:
                self.world.kills += 1
                self.world.log.append(f"{self.name} died in {verb.__name__}")
                self._run()
                await self._come_back()
            else:
                self.world.log.append(f"{self.name} {verb.__name__}")
            await self.world.check_step()
            await asyncio.sleep(self.rng.choice((0.01, 0.5, 5.0)))

    async def _come_back(self) -> None:
        try:
            await self.wallet.resume()
        except SpecieError:
            return
        except Killed:
            self._run()

    async def settle_down(self) -> None:
        """Finish everything that is open."""
        self._run()
        for _ in range(40):
            report = await self.wallet.resume()
            await self.wallet.check_pending()
            if not report.open and not await self.wallet.operations():
                return
            await asyncio.sleep(60.0)
        raise AssertionError(f"{self.name} never finished: {report}")

    async def _mint(self) -> None:
        quote = await self.wallet.mint_quote(self.rng.choice((1, 8, 50, 333)))
        await self.world.pay_in(quote.request)
        await self.wallet.claim(await self.wallet.wait(quote, timeout_s=20.0))

    async def _send(self) -> None:
        amount = self.rng.choice((1, 5, 21, 64))
        token = await self.wallet.send(amount, include_fee=self.rng.random() < 0.5)
        self.world.tokens.append(Token(token.text, amount))

    async def _send_locked(self) -> None:
        reader = self.rng.choice(self.world.wallets)
        key = await reader.fresh_key()
        amount = self.rng.choice((2, 16))
        token = await self.wallet.send(amount, lock=P2PK((key,)), include_fee=True)
        self.world.tokens.append(Token(token.text, amount, reader=reader))

    async def fresh_key(self) -> str:
        """A key of ours to lock coins to, however often the wallet dies over it."""
        while True:
            try:
                return await self.wallet.p2pk_key()
            except Killed:
                self._run()

    async def restored(self) -> int:
        """What another wallet with our words finds at the mint."""
        store = SqliteStorage(":memory:", inline=True)
        await store.migrate(WALLET_MIGRATIONS)
        entropy = SeededEntropy(f"{self.world.seed} {self.name} restored")
        wallet = Wallet(
            storage=store,
            store=SqlWalletStore(),
            signer=SoftwareSigner(seed_from_words(self._words), threads=0, entropy=entropy),
            clients=lambda url: SimClient(url, self.world),
            clock=self.world.clock,
            entropy=entropy,
            settings=WALLET_SETTINGS,
        )
        await wallet.restore([URL])
        total = (await wallet.balance()).total
        await store.close()
        return total

    async def _receive(self) -> None:
        waiting = [token for token in self.world.tokens if not token.taken and token.reader in (None, self)]
        if waiting:
            token = self.rng.choice(waiting)
            token.taken = self.rng.random() < 0.8  # else somebody else tries the same token
            await self.wallet.receive(token.text)

    async def _ask(self) -> None:
        quote = await self.wallet.mint_quote(self.rng.choice((1, 7, 30)))
        self.world.invoices.append(quote.request)

    async def _pay_own(self) -> None:
        if self.world.invoices:
            await self.wallet.pay(self.world.invoices.pop(), wait_s=self.rng.choice((0.0, 5.0)))

    async def _pay_foreign(self) -> None:
        invoice = await self.world.foreign_invoice(self.rng.choice((1, 10, 40)))
        await self.wallet.pay(invoice, wait_s=self.rng.choice((0.0, 5.0, 60.0)))

    async def _reshape(self) -> None:
        await self.rng.choice((self.wallet.consolidate, self.wallet.rotate, lambda: self.wallet.split([1, 2, 3])))()

    async def _look(self) -> None:
        await self.wallet.check_pending()
        await self.wallet.resume()

    async def _reclaim(self) -> None:
        sent = await self.wallet.tokens()
        if sent:
            await self.wallet.reclaim(self.rng.choice(sent).token_id)

    async def _bank_rotates(self) -> None:
        living = self.world.alive()
        if living and self.rng.random() < 0.3:
            try:
                await self.rng.choice(living).mint.rotate_keyset("sat")
            except Killed:
                self.world.log.append("bank died while it rotated")


@dataclass(frozen=True)
class Outcome:
    """What a seed did."""

    seed: int
    steps: int
    kills: int
    log: tuple[str, ...]


def play(seed: int, steps: int = 40) -> Outcome:
    """Play a seed to its end. Any error names the seed, and the same seed fails the same way again."""
    world = World(seed)

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        await world.play(steps)

    try:
        run_virtual(main())
    except BaseException as error:
        tail = "\n  ".join(world.log[-25:])
        error.add_note(f"simulator seed {seed}, {steps} steps, {world.kills} kills; the end of it:\n  {tail}")
        raise
    return Outcome(seed, steps, world.kills, tuple(world.log))
