"""Real peers' wallets and mints as processes, driven from tests.

A driver process hosts many wallets of one implementation and speaks one JSON line each way (cashu_ts/driver.mjs,
nutshell/driver.py). A mint is a subprocess on an ephemeral loopback port with a data directory of its own. Every wait is
bounded and every process is ended by its own handle. Nothing here knows a NUT: what the bytes mean is the peers' affair.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import selectors
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coincurve import PrivateKey
from mnemonic import Mnemonic

import specie
from tests.support.process import free_port

__all__ = [
    "CALL_TIMEOUT_S",
    "Driver",
    "MintProcess",
    "PeerError",
    "PeerWallet",
    "cashu_ts_command",
    "clean_environment",
    "free_port",
    "fresh_words",
    "nutshell_command",
    "our_environment",
    "peers_directory",
    "run_mint",
]

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path(specie.__file__).resolve().parents[1]
"""Where the package under test was imported from: programs of ours that a test starts import it from there too."""
HERE = Path(__file__).resolve().parent
CALL_TIMEOUT_S = 60.0
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0


class PeerError(Exception):
    """A peer refused or failed; `code` is the NUT error code when the peer told one."""

    def __init__(self, message: str, code: int | None) -> None:
        super().__init__(f"{message} (code {code})" if code is not None else message)
        self.code = code


def peers_directory() -> Path:
    """Where scripts/install-peers.sh puts the peers."""
    return Path(os.environ.get("SPECIE_PEERS") or ROOT / ".cache" / "peers")


def fresh_words() -> str:
    """Twelve FRESH BIP39 words."""
    return str(Mnemonic("english").generate(128))


def clean_environment(home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment that carries nothing of the user's: no proxy, no configuration, `home` as home."""
    home.mkdir(parents=True, exist_ok=True)
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT") if name in os.environ}
    kept["HOME"] = str(home)
    for name in ("CONFIG", "DATA", "STATE", "CACHE"):
        kept[f"XDG_{name}_HOME"] = str(home / name.lower())
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", **(extra or {})}


def our_environment(home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """`clean_environment` for a program of ours (a peer's must not see our packages)."""
    return clean_environment(home, {"PYTHONPATH": str(SOURCE), **(extra or {})})


def missing_peer(name: str) -> str | None:
    """Why the peer `name` ("nutshell" or "cashu_ts") cannot be used, or None."""
    directory = peers_directory() / name
    if not (directory / ".stamp").is_file():
        return f"{name} is not installed in {directory}: run scripts/install-peers.sh"
    if name == "cashu_ts" and shutil.which("node") is None:
        return "node is missing: run scripts/install-peers.sh"
    return None


def cashu_ts_command() -> list[str]:
    return ["node", str(HERE / "cashu_ts" / "driver.mjs"), str(peers_directory() / "cashu_ts")]


def nutshell_command() -> list[str]:
    return [str(peers_directory() / "nutshell" / "bin" / "python"), str(HERE / "nutshell" / "driver.py")]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Asks the process to end, then makes it."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
    if process.poll() is None:
        process.kill()
        process.wait(STOP_TIMEOUT_S)


class Driver:
    """A driver process: `call` sends one request and waits for its answer."""

    def __init__(self, name: str, command: Sequence[str], home: Path) -> None:
        self.name = name
        self.home = home
        self._log = home / "driver.log"
        environment = clean_environment(home, {"CASHU_DIR": str(home / "cashu"), "TOR": "FALSE", "LOG_LEVEL": "ERROR"})
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment, cwd=home
            )
        self._selector = selectors.DefaultSelector()
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        self._unread = b""
        self._sent = 0

    def call(self, call: str, wallet: int | None = None, timeout_s: float = CALL_TIMEOUT_S, **args: Any) -> Any:
        """The peer's answer; PeerError when it refuses or fails, TimeoutError when it says nothing."""
        self._sent += 1
        request = {"id": self._sent, "call": call, "wallet": wallet, "args": args}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        answer = json.loads(self._line(call, time.monotonic() + timeout_s))
        if answer["id"] != self._sent:
            raise AssertionError(f"{self.name} answered {answer['id']} to {self._sent}")
        if "error" in answer:
            raise PeerError(f"{self.name} {call}: {answer['error']['message']}", answer["error"]["code"])
        return answer["ok"]

    def _line(self, call: str, end: float) -> bytes:
        assert self._process.stdout is not None
        while b"\n" not in self._unread:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{self.name} did not answer {call}; its log ends:\n{self._tail()}")
            if self._selector.select(left):
                chunk = os.read(self._process.stdout.fileno(), 65536)
                if not chunk:
                    raise RuntimeError(f"{self.name} ended during {call}; its log ends:\n{self._tail()}")
                self._unread += chunk
        line, self._unread = self._unread.split(b"\n", 1)
        return line

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]

    def close(self) -> None:
        self._selector.close()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        _end(self._process)


@dataclass
class PeerWallet:
    """A wallet inside a driver: the verbs every wallet in these tests has.

    Amounts are integers in `unit`'s minor unit. Every verb raises PeerError when the wallet or its mint refuses.
    """

    driver: Driver
    mint_url: str
    words: str
    unit: str = "sat"
    handle: int = field(init=False)
    pubkey: str = field(init=False)  # 33 bytes, hex: what this wallet can unlock
    keyset: str = field(init=False)
    fee_ppk: int = field(init=False)
    balance: int = field(init=False)
    _privkeys: list[str] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        if self.driver.name == "cashu-ts":
            secret = {"seed": Mnemonic.to_seed(self.words).hex()}
        else:
            # a wallet opened again from its words is another device: it gets an empty database
            directory = self.driver.home / f"wallet-{time.monotonic_ns()}"
            secret = {"words": self.words, "directory": str(directory)}
        opened = self.driver.call("open", mint=self.mint_url, unit=self.unit, **secret)
        self.handle, self.pubkey, self.keyset = opened["wallet"], opened["pubkey"], opened["keyset"]
        self.fee_ppk, self.balance = opened["fee_ppk"], opened["balance"]

    def _call(self, call: str, **args: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.driver.call(call, self.handle, **args)
        self.balance = answer.get("balance", self.balance)
        return answer

    def mint_quote(self, amount: int, *, locked: bool = False) -> dict[str, Any]:
        """`quote` and `request` (BOLT11); `locked` to this wallet's key (NUT-20; Nutshell always does)."""
        return self._call("mint_quote", amount=amount, locked=locked)

    def wait_paid(self, quote: str, *, by_socket: bool = False, timeout_s: float = 20.0) -> str:
        """The quote's state once it is PAID (or ISSUED), by polling or by a NUT-17 subscription."""
        call = "wait_paid_by_socket" if by_socket else "wait_paid"
        return str(self._call(call, quote=quote, timeout_ms=int(timeout_s * 1000))["state"])

    def issue(self, quote: str) -> int:
        """Mints a paid quote: the amount received."""
        return int(self._call("mint", quote=quote)["amount"])

    def mint(self, amount: int, *, locked: bool = False) -> int:
        """Quote, wait and issue: the amount received."""
        quote = self.mint_quote(amount, locked=locked)["quote"]
        self.wait_paid(quote)
        return self.issue(quote)

    def swap(self) -> int:
        """Renews every proof: the fee paid."""
        return int(self._call("swap")["paid"])

    def send(
        self,
        amount: int,
        *,
        lock: Mapping[str, Any] | None = None,
        include_fees: bool = False,
        legacy: bool = False,
        memo: str | None = None,
    ) -> str:
        """A token of `amount` (V4, or V3 when `legacy`); `lock` as in `Lock`'s notes below.

        lock: pubkeys (33-byte hex), n_sigs, locktime (unix seconds), refund (pubkeys), sig_all, hashlock (hex).
        """
        args = {"amount": amount, "lock": dict(lock) if lock else None, "include_fees": include_fees}
        return str(self._call("send", **args, legacy=legacy, memo=memo)["token"])

    def lock_keys(self, count: int) -> list[str]:
        """FRESH public keys (33 bytes, hex) to which coins can be locked for this wallet; it opens them from now on."""
        keys = [PrivateKey() for _ in range(count)]
        self._privkeys += [key.to_hex() for key in keys]
        return [key.public_key.format().hex() for key in keys]

    def receive(self, token: str, *, preimage: str | None = None) -> int:
        """Takes a token, insisting on DLEQ: the amount received after fees."""
        return int(self._call("receive", token=token, preimage=preimage, privkeys=self._privkeys)["amount"])

    def melt(
        self,
        request: str,
        *,
        amount_msat: int | None = None,
        token: str | None = None,
        prefer_async: bool = False,
        timeout_s: float = 20.0,
    ) -> dict[str, Any]:
        """Pays a BOLT11 invoice: `state`, `first_state`, `preimage`, `amount`, `fee_reserve`, `change`.

        `amount_msat` for an invoice that names none; `token`: pay with its coins, unlocking them, and with no others;
        `prefer_async`: let the mint answer before it has paid, and wait for the end.
        """
        more = {"amount_msat": amount_msat, "token": token, "prefer_async": prefer_async}
        return self._call("melt", request=request, privkeys=self._privkeys, timeout_ms=int(timeout_s * 1000), **more)

    def watch(self, token: str) -> None:
        """Subscribes to the states of a token's coins (NUT-17)."""
        self._call("watch", token=token)

    def watched(self, timeout_s: float = 15.0) -> int:
        """How many of the watched coins were told to be spent."""
        return int(self._call("watched", timeout_ms=int(timeout_s * 1000))["spent"])

    def restore(self) -> int:
        """Finds again what the words own at the mint: the unspent amount."""
        return int(self._call("restore")["amount"])

    def states(self, token: str | None = None) -> list[str]:
        """NUT-07 states of a token's proofs, or of this wallet's own."""
        answer: list[str] = self.driver.call("states", self.handle, token=token)
        return answer


@dataclass(frozen=True)
class MintProcess:
    """A running mint: its address, and its process for tests that end it."""

    name: str
    url: str
    data: Path
    pid: int


@contextlib.contextmanager
def run_mint(
    name: str, command: Sequence[str], home: Path, port: int, environment: Mapping[str, str] | None = None
) -> Iterator[MintProcess]:
    """Starts a mint, waits until GET /v1/info answers, and ends it at the end."""
    url = f"http://127.0.0.1:{port}"
    variables = clean_environment(home, environment)
    log_path = home / "mint.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=variables, cwd=home
        )
    try:
        end = time.monotonic() + START_TIMEOUT_S
        while not _answers(f"{url}/v1/info"):
            if process.poll() is not None:
                raise RuntimeError(f"{name} mint ended with {process.returncode}:\n{log_path.read_text()[-4000:]}")
            if time.monotonic() > end:
                raise TimeoutError(f"{name} mint did not start:\n{log_path.read_text()[-4000:]}")
            time.sleep(0.1)
        yield MintProcess(name, url, home, process.pid)
    finally:
        _end(process)


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2) as answer:
            return int(answer.status) == 200
    except (http.client.HTTPException, OSError):  # nobody there yet, or somebody else
        return False
