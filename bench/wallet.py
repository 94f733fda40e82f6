"""Our wallet beside those of cashu-ts and Nutshell: the same work at the same mint of ours, one after another in one run.

    python -m bench.wallet           scripts/install-peers.sh installs the others; SPECIE_PEERS says where they are

Each wallet is a process of its own and measures itself: time from call to answer, and its own processor time. Nothing of the
mint's is in the latter.
"""

from __future__ import annotations

import contextlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mnemonic import Mnemonic

from bench import svg
from bench.bank import BenchError, running_bank
from bench.client import Clients
from bench.figures import names_checked, table
from bench.purse import Outputs, Purse, amounts_for
from bench.record import Record, options_parser
from specie.ecash import BlindedMessage, Proof, ProofDleq, Token, blind, encode_token, hash_to_curve, unblind, wire
from specie.ecash.derivation import derive
from tests.interop.peers import SOURCE, Driver, PeerError, missing_peer, nutshell_command, peers_directory

__all__ = ["losses", "main"]

_WALLETS = ("specie", "cashu-ts", "nutshell")
_HERE = Path(__file__).parent / "wallets"
_TOKEN_COINS = 200
_TARGETS = (1, 1_000, 54_321, 499_999)
_BATCH = 500
_CALL_S = 600.0
_IMPORTS = 5


def _node_library() -> str:
    return str(peers_directory() / "cashu_ts" / "node_modules" / "@cashu" / "cashu-ts" / "lib" / "cashu-ts.es.js")


def _command(wallet: str) -> list[str]:
    if wallet == "specie":
        return ["env", f"PYTHONPATH={SOURCE}", sys.executable, str(_HERE / "ours.py")]
    if wallet == "nutshell":
        return [nutshell_command()[0], str(_HERE / "nutshell.py")]
    return ["node", str(_HERE / "cashu_ts.mjs"), str(peers_directory() / "cashu_ts")]


def _imports(wallet: str) -> tuple[list[str], list[str]]:
    """Commands that load the library, and that load nothing."""
    if wallet == "cashu-ts":
        node = ["node", "--input-type=module", "-e"]
        return [*node, f"await import({_node_library()!r})"], [*node, "0"]
    python, statement = sys.executable, "import specie; specie.Wallet"
    if wallet == "nutshell":
        python, statement = nutshell_command()[0], "from cashu.wallet.wallet import Wallet"
    return [python, "-c", statement], [python, "-c", "pass"]


def _run_times(command: Sequence[str], home: Path, runs: int) -> dict[str, float]:
    """Median milliseconds of wall and processor time of a program, after one run that warms the disk's cache."""
    home.mkdir(exist_ok=True)
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(home), "CASHU_DIR": str(home / "cashu"), "TOR": "FALSE"}
    environment["PYTHONPATH"] = str(SOURCE) if command[0] == sys.executable else ""
    walls, cpus = [], []
    for _ in range(runs + 1):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, env=environment, cwd=home, check=True, capture_output=True, timeout=60)
        walls.append((time.perf_counter() - start) * 1e3)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3)
    return {"ms": statistics.median(walls[1:]), "cpu_ms": statistics.median(cpus[1:])}


class _Prepared:
    """What the wallets are given: tokens with DLEQ, and words of which the mint has signed outputs."""

    def __init__(self, purse: Purse, clients: Clients, mint: str) -> None:
        self._purse, self._clients, self._mint = purse, clients, mint

    def token(self) -> str:
        """A new token of 200 coins."""
        purse, amounts = self._purse, amounts_for(_TOKEN_COINS)
        outputs = purse.outputs(amounts)
        (quote,) = purse.paid_quotes([sum(amounts)])
        answer = self._clients.fire([purse.mint_request(quote, outputs)], 1).answers[0]
        proofs = []
        for signature, secret, r in zip(wire.signatures_from_json(answer.body), outputs.secrets, outputs.factors, strict=True):
            if signature.dleq is None:
                raise BenchError("a signature without DLEQ")
            dleq = ProofDleq(signature.dleq.e, signature.dleq.s, r)
            c = unblind(signature.C_, r, purse.keyset.keys[signature.amount])
            proofs.append(Proof(signature.amount, signature.id, secret, c, dleq=dleq))
        return encode_token(Token(self._mint, "sat", tuple(proofs)))

    def signed(self, seed: bytes, count: int) -> int:
        """Have the mint sign the first `count` outputs of a seed (NUT-13); their sum."""
        purse = self._purse
        amounts = amounts_for(count)
        for start in range(0, count, _BATCH):
            some = amounts[start : start + _BATCH]
            secrets, factors = zip(*(derive(seed, purse.keyset.id, start + at) for at in range(len(some))), strict=True)
            made = zip(some, secrets, factors, strict=True)
            messages = tuple(BlindedMessage(amount, purse.keyset.id, blind(secret, r)) for amount, secret, r in made)
            (quote,) = purse.paid_quotes([sum(some)])
            answer = self._clients.fire([purse.mint_request(quote, Outputs(messages, secrets, factors))], 1).answers[0]
            if answer.status != 200:
                raise BenchError(f"outputs were not signed: {answer.body[:200]!r}")
        return sum(amounts)


@contextlib.contextmanager
def _driver(wallet: str, home: Path) -> Iterator[Driver]:
    home.mkdir(parents=True)
    driver = Driver(wallet, _command(wallet), home)
    try:
        yield driver
    finally:
        driver.close()


def _expect(what: str, told: Mapping[str, Any], wanted: float) -> dict[str, float]:
    if told["result"] != wanted:
        raise BenchError(f"{what}: {told['result']} instead of {wanted}")
    return {"ms": told["ms"], "cpu_ms": told["cpu_ms"]}


def _medians(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: statistics.median(row[name] for row in rows) for name in ("ms", "cpu_ms")}


class _Sizes:
    """How much of everything."""

    def __init__(self, quick: bool, restored: int, held: int) -> None:
        self.restored, self.held = restored, held
        self.tokens = 1 if quick else 3
        self.imports = 2 if quick else _IMPORTS


def _measured(
    wallet: str, directory: Path, mint: str, prepared: _Prepared, words: str, total: int, keyset: str, sizes: _Sizes, say: Any
) -> dict[str, dict[str, float]]:
    """All figures of one wallet."""
    found: dict[str, dict[str, float]] = {}
    loading, nothing = _imports(wallet)
    found["import"] = _run_times(loading, directory / f"{wallet}-import", sizes.imports)
    base = _run_times(nothing, directory / f"{wallet}-import", sizes.imports)
    found["import, without the interpreter"] = {name: max(0.0, found["import"][name] - base[name]) for name in base}
    with _driver(wallet, directory / wallet) as driver:

        def call(name: str, **args: Any) -> dict[str, Any]:
            told: dict[str, Any] = driver.call(name, None, _CALL_S, **args)
            return told

        def opened(name: str, words: str) -> None:
            where = directory / f"{wallet}-{name}"
            where.mkdir()
            call("open", mint=mint, words=words, seed=Mnemonic.to_seed(words).hex(), directory=str(where))

        opened("receive", str(Mnemonic("english").generate(128)))
        worth = sum(amounts_for(_TOKEN_COINS))
        rows = [_expect(f"{wallet} receive", call("receive", token=prepared.token()), worth) for _ in range(sizes.tokens)]
        found[f"receive a token of {_TOKEN_COINS}"] = _medians(rows)
        token = prepared.token()
        rows = [_expect(f"{wallet} dleq", call("dleq", token=token), _TOKEN_COINS) for _ in range(sizes.tokens)]
        found[f"check {_TOKEN_COINS} DLEQs"] = _medians(rows)
        amounts = [1 << at % 16 for at in range(sizes.held)]
        secrets = [f"{at:064x}" for at in range(sizes.held)]
        call("hold", keyset=keyset, secrets=secrets, point=hash_to_curve(b"any point").hex(), amounts=amounts)
        picks = []
        for target in _TARGETS:
            told = call("select", keyset=keyset, target=target)
            if told["result"] < target:
                raise BenchError(f"{wallet} chose {told['result']} for {target}")
            picks.append({"ms": told["ms"], "cpu_ms": told["cpu_ms"]})
        found[f"choose among {sizes.held:,} coins"] = _medians(picks)
        opened("restore", words)
        found[f"restore {sizes.restored:,} coins"] = _expect(f"{wallet} restore", call("restore"), total)
    for name, row in found.items():
        say(f"  {wallet:<9} {name:<34} {row['ms']:>10.1f} ms {row['cpu_ms']:>10.1f} ms of CPU")
    return found


def losses(figures: Mapping[str, Mapping[str, Mapping[str, float]]], ours: str = "specie") -> list[str]:
    """What `ours` is slower at than another, in time or in processor time, one line each. `figures`: wallet, work, figure."""
    lines = []
    for work, mine in figures.get(ours, {}).items():
        for other, theirs in figures.items():
            for figure, told in (("ms", "time"), ("cpu_ms", "processor time")):
                if other != ours and work in theirs and mine[figure] > theirs[work][figure]:
                    lines.append(f"{work}: {mine[figure]:.1f} ms of {told} against {theirs[work][figure]:.1f} ms of {other}")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the arguments say; 0, or 1 where our wallet or our mint did something wrong."""
    parser = options_parser("wallet", __doc__)
    parser.add_argument("--only", default=",".join(_WALLETS), help="wallets")
    parser.add_argument("--restored", type=int, default=None, help="coins to restore (10,000; quick: 1,000)")
    parser.add_argument("--held", type=int, default=None, help="coins to choose among (100,000; quick: 10,000)")
    options = parser.parse_args(arguments)
    options.restored = options.restored or (1_000 if options.quick else 10_000)
    options.held = options.held or (10_000 if options.quick else 100_000)
    try:
        options.only = names_checked(options.only, _WALLETS)
    except ValueError as error:
        parser.error(str(error))
    if not 1 <= options.restored <= 100_000 or not 100 <= options.held <= 1_000_000:
        parser.error("restored from 1 to 100,000, held from 100 to 1,000,000")
    failed = False
    with tempfile.TemporaryDirectory(prefix="specie-bench-wallet-", dir=options.dir) as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        record = Record("wallet", options, directory)
        bank = stack.enter_context(running_bank(directory / "home"))
        clients = stack.enter_context(Clients(bank.host, bank.port))
        mint = f"http://{bank.host}:{bank.port}"
        purse = Purse(clients)
        prepared = _Prepared(purse, clients, mint)
        words = str(Mnemonic("english").generate(128))
        total = prepared.signed(Mnemonic.to_seed(words), options.restored)
        sizes = _Sizes(options.quick, options.restored, options.held)
        for wallet in options.only:
            missing = None if wallet == "specie" else missing_peer(wallet.replace("-", "_"))
            if missing:
                record.note(missing)
                continue
            try:
                record.figures[wallet] = _measured(
                    wallet, directory, mint, prepared, words, total, purse.keyset.id, sizes, record.say
                )
            except (BenchError, PeerError, TimeoutError, RuntimeError) as error:
                record.note(f"{wallet} failed: {error}")
                failed = failed or wallet == "specie"
        if "cashu-ts" in record.figures:
            node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False)
            record.machine["node"] = node.stdout.strip()
    _tell(record)
    record.write()
    return 1 if failed else 0


def _tell(record: Record) -> None:
    works = list(dict.fromkeys(work for by in record.figures.values() for work in by))
    rows: list[list[object]] = []
    for work in works:
        row: list[object] = [work]
        for by in record.figures.values():
            row += [by[work]["ms"], by[work]["cpu_ms"]] if work in by else ["-", "-"]
        rows.append(row)
    head = ["work, ms"]
    for wallet in record.figures:
        head += [wallet, "of CPU"]
    record.say(table(head, rows))
    lost = losses(dict(record.figures))
    for line in lost:
        record.say(f"ours loses: {line}")
    for work in works:
        if "interpreter" in work:
            continue
        bars = {wallet: {"CPU": by[work]["cpu_ms"]} for wallet, by in record.figures.items() if work in by}
        record.picture(work.split()[0], svg.bars(f"{work}: the wallet's processor time", "ms", bars))
    record.figures["ours_loses"] = lost


if __name__ == "__main__":
    sys.exit(main())
