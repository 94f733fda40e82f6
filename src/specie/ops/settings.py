"""The settings of one bank as frozen values. Reading them from files and the environment is `config`'s.

The docstring below each field is its documentation: `config.example_toml` prints it. Each field says in its metadata whether a
running bank takes a new value (LIVE) or its next start does (RESTART); a rail is one setting, taken at the start.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import platformdirs

from specie.kernel.limits import Limits
from specie.kernel.live import LIVE, RESTART
from specie.mint.settings import MintSettings
from specie.ops.secret import Secret
from specie.ops.secret_reference import SecretReference

__all__ = [
    "AuditSettings",
    "BankSettings",
    "KeysProvider",
    "KeysSettings",
    "LogFormat",
    "LogLevel",
    "LogSettings",
    "Pkcs11Settings",
    "RailKind",
    "RailSettings",
    "RateSettings",
    "ReloadSettings",
    "RemoteKeysSettings",
    "SealingSource",
    "ServerSettings",
    "StoreEngine",
    "StoreSettings",
    "default_data_dir",
    "is_loopback",
]


def _between(minimum: float, maximum: float) -> dict[str, Any]:
    return {"minimum": minimum, "maximum": maximum}


def default_data_dir() -> Path:
    """Where a bank keeps its books unless told otherwise: `bank` in the user's data home."""
    return Path(platformdirs.user_data_dir("specie")) / "bank"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host` (an address or `localhost`)."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class RateSettings:
    """Requests one peer may make, counted by each process alone. A peer is an IPv4 address or an IPv6 /64."""

    requests_per_minute: int = field(default=1200, metadata=_between(0, 10_000_000) | LIVE)
    """Sustained requests of one peer to the Cashu API; 0 switches the limit off."""
    burst: int = field(default=240, metadata=_between(1, 1_000_000) | LIVE)
    """Requests a quiet peer may make at once."""
    quotes_per_minute: int = field(default=120, metadata=_between(0, 10_000_000) | LIVE)
    """Sustained new quotes, and looks at several at once, of one peer (each asks a rail); 0 switches the limit off."""
    quote_burst: int = field(default=60, metadata=_between(1, 1_000_000) | LIVE)
    """New quotes a quiet peer may ask for at once."""
    limit_loopback: bool = field(default=False, metadata=LIVE)
    """Limit programs on this machine too."""
    peers: int = field(default=50_000, metadata=_between(100, 10_000_000) | LIVE)
    """Peers remembered; the longest silent is forgotten first (about 200 bytes each)."""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The HTTP face."""

    host: str = field(default="127.0.0.1", metadata=RESTART)
    """Address to listen on. Anything but loopback needs allow_play_on_network while a rail is play money."""
    port: int = field(default=3338, metadata=_between(0, 65535) | RESTART)
    """TCP port; 0 takes any free one."""
    workers: int = field(default=1, metadata=_between(1, 256) | RESTART)
    """Processes that serve this port, on PostgreSQL only; each is started again if it dies."""
    public_url: str = field(default="", metadata=RESTART)
    """URL that wallets use, where it differs from http://host:port (behind a proxy). Shown as text and QR code."""
    allow_play_on_network: bool = field(default=False, metadata=RESTART)
    """Let other machines reach a bank whose money is play money."""
    trusted_proxies: tuple[str, ...] = field(default=(), metadata=LIVE)
    """Addresses or networks whose X-Forwarded-For is believed."""
    in_flight: int = field(default=2000, metadata=_between(1, 1_000_000) | LIVE)
    """Requests worked on at once; more are told to come back."""
    body_timeout_s: float = field(default=20.0, metadata=_between(0.1, 3600) | LIVE)
    """Seconds a peer may take to send a request's body."""
    drain_s: float = field(default=20.0, metadata=_between(0, 3600) | RESTART)
    """Seconds that running requests get to finish when the bank is stopped."""
    accept_s: float = field(default=0.0, metadata=_between(0, 3600) | RESTART)
    """Seconds that new connections are still taken after a stop began and /readyz says so, for a load balancer to notice."""
    sockets: int = field(default=2000, metadata=_between(0, 1_000_000) | LIVE)
    """WebSockets open at once (NUT-17)."""
    sockets_per_peer: int = field(default=50, metadata=_between(0, 1_000_000) | LIVE)
    """WebSockets of one peer; programs on this machine are not counted unless rate.limit_loopback."""
    socket_idle_s: float = field(default=900.0, metadata=_between(1, 86_400) | LIVE)
    """Seconds after which a WebSocket that said nothing and was told nothing is closed."""
    metrics_public: bool = field(default=False, metadata=LIVE)
    """Answer /metrics and the details of /healthz to other machines too."""
    rate: RateSettings = field(default_factory=RateSettings)
    """Rate limits."""


class StoreEngine(StrEnum):
    """What an embedded store is made of."""

    SQLITE = "sqlite"
    ROCKSDB = "rocksdb"


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Where the bank remembers."""

    engine: StoreEngine = field(default=StoreEngine.SQLITE, metadata=RESTART)
    """sqlite, or rocksdb for a busy bank on one machine. Chosen before the first start, for good."""
    path: Path | None = field(default=None, metadata=RESTART)
    """SQLite file or RocksDB directory; by default bank.sqlite or bank.rocksdb in the data directory."""
    dsn: Secret | SecretReference | None = field(default=None, metadata=RESTART)
    """PostgreSQL instead of an embedded store: postgresql://user:password@host/database, or a reference to it."""
    writers: int = field(default=4, metadata=_between(1, 256) | RESTART)
    """PostgreSQL connections that write (embedded stores have one writer)."""

    @property
    def label(self) -> str:
        """The engine's name for people."""
        if self.dsn is not None:
            return "PostgreSQL"
        return "RocksDB" if self.engine is StoreEngine.ROCKSDB else "SQLite"


class RailKind(StrEnum):
    """Rails this version knows."""

    PLAY = "play"


@dataclass(frozen=True, slots=True)
class RailSettings:
    """One payment rail."""

    kind: RailKind = RailKind.PLAY
    """play: money for trying things out; its invoices are paid by themselves."""
    method: str = "bolt11"
    """Payment method it serves: bolt11, bolt12, onchain, or any other name for a method of its own (play only)."""
    name: str = ""
    """Name in the books, for good; by default its kind, with the method behind it where that is not bolt11."""
    autopay: bool = True
    """Pay own invoices after a moment (play only)."""
    autopay_delay_s: float = field(default=3.0, metadata=_between(0, 86_400))
    """How long that moment is, in seconds (play only)."""
    confirmations: int = field(default=3, metadata=_between(1, 1000))
    """Blocks after which a deposit counts and a payment is done (onchain only)."""
    block_s: float = field(default=2.0, metadata=_between(0, 86_400))
    """Seconds from one play block to the next while something waits for it; 0: blocks by hand (play onchain only)."""
    network: Path | None = None
    """File that several play banks on one machine share, to pay parts of one invoice (play bolt11 only)."""

    @property
    def full_name(self) -> str:
        """Its name in the books, given or not."""
        return self.name or (self.kind.value if self.method == "bolt11" else f"{self.kind.value}-{self.method}")

    @property
    def play(self) -> bool:
        """Whether its money is play money."""
        return self.kind is RailKind.PLAY


class SealingSource(StrEnum):
    """Where the key comes from that seals the bank's seed at rest."""

    AUTO = "auto"
    PASSPHRASE = "passphrase"  # noqa: S105 - names a source
    KEYRING = "keyring"


class KeysProvider(StrEnum):
    """Who holds the bank's keys."""

    SOFTWARE = "software"
    REMOTE = "remote"


@dataclass(frozen=True, slots=True)
class RemoteKeysSettings:
    """The signer process of a bank whose keys.provider is remote."""

    socket: Path | None = field(default=None, metadata=RESTART)
    """Unix socket of the signer (specie signer run)."""
    identity: Path | None = field(default=None, metadata=RESTART)
    """bank.pem of specie signer pair: the bank's key and certificate, mode 0600."""
    signer: Path | None = field(default=None, metadata=RESTART)
    """signer.crt of specie signer pair: the one certificate that the bank talks to."""
    deadline_s: float = field(default=10.0, metadata=_between(0.1, 600) | RESTART)
    """Seconds that the signer may take for an answer; then its connection is ended and nothing was signed."""
    wait_s: float = field(default=10.0, metadata=_between(0, 600) | RESTART)
    """Seconds that a bank which starts waits for its signer."""
    check_all: bool = field(default=False, metadata=RESTART)
    """Check the DLEQ of every blind signature, not of a sample: costs the bank more than signing itself would."""


@dataclass(frozen=True, slots=True)
class Pkcs11Settings:
    """A PKCS#11 token (an HSM): for `specie keys probe`, and for keysets rotated into it (`--keys pkcs11`)."""

    module: Path | None = field(default=None, metadata=RESTART)
    """The PKCS#11 module of the device, a shared library."""
    token: str = field(default="", metadata=RESTART)
    """Label of the token."""
    pin_file: Path | None = field(default=None, metadata=RESTART)
    """File that holds the PIN of the token's user, readable by nobody else; its last line end is dropped."""
    pin: Secret | SecretReference | None = field(default=None, metadata=RESTART)
    """The PIN itself, from the environment only (SPECIE_KEYS_PKCS11_PIN), or a reference to it."""
    deadline_s: float = field(default=5.0, metadata=_between(0.1, 300) | RESTART)
    """Seconds after which a call of the device counts as hanging."""


@dataclass(frozen=True, slots=True)
class KeysSettings:
    """Who holds the bank's keys, and how its seed is sealed at rest."""

    provider: KeysProvider = field(default=KeysProvider.SOFTWARE, metadata=RESTART)
    """software: in the bank's own process. remote: with a signer process (section keys.remote); the bank then has no seed."""
    sealing: SealingSource = field(default=SealingSource.AUTO, metadata=RESTART)
    """auto: a passphrase if given, else, where all rails are play, a random key in the user's config home. Or: keyring."""
    passphrase_file: Path | None = field(default=None, metadata=RESTART)
    """File that holds the passphrase; its last line end is dropped."""
    passphrase: Secret | SecretReference | None = field(default=None, metadata=RESTART)
    """The passphrase itself, from the environment only (SPECIE_PASSPHRASE); or a reference to it, from anywhere."""
    native: bool = field(default=True, metadata=RESTART)
    """Do the mint's curve work in native batches where they were built (`make up` with a C compiler); else by the binding."""
    remote: RemoteKeysSettings = field(default_factory=RemoteKeysSettings)
    """The signer process, with provider remote."""
    standby: RemoteKeysSettings = field(default_factory=RemoteKeysSettings)
    """A second signer process with the same seed, asked while the first one is away; none unless its socket is given."""
    pkcs11: Pkcs11Settings = field(default_factory=Pkcs11Settings)
    """A PKCS#11 token, in which keysets may live."""


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """The audit log of what operators and the bank itself did."""

    anchor_file: Path | None = field(default=None, metadata=RESTART)
    """File that every checkpoint of the log is appended to: on another disk or host. Its directory must exist."""
    checkpoint_every: int = field(default=1, metadata=_between(1, 100_000) | RESTART)
    """Records from one checkpoint to the next; those behind the last one can be cut off unseen."""


class LogLevel(StrEnum):
    """Lines below this level are dropped."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How a line is written; `auto` is console on a terminal and json elsewhere."""

    AUTO = "auto"
    JSON = "json"
    CONSOLE = "console"


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What is written to standard error."""

    level: LogLevel = field(default=LogLevel.INFO, metadata=LIVE)
    """debug, info, warning or error."""
    format: LogFormat = field(default=LogFormat.AUTO, metadata=LIVE)
    """json, console, or auto: console on a terminal, json elsewhere."""


@dataclass(frozen=True, slots=True)
class ReloadSettings:
    """How a running bank takes a changed settings file by itself. `specie config apply` and SIGHUP work without."""

    watch_s: float = field(default=2.0, metadata=_between(0, 3600) | LIVE)
    """Seconds between two looks at the file; it is taken once two looks found it the same. 0: it is not watched."""


@dataclass(frozen=True, slots=True)
class BankSettings:
    """Everything one bank can be told. Built by `config.load_settings`."""

    data_dir: Path = field(default_factory=default_data_dir, metadata=RESTART)
    """Directory of the store, the sealed seed, backups and the operator's socket."""
    server: ServerSettings = field(default_factory=ServerSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    keys: KeysSettings = field(default_factory=KeysSettings)
    mint: MintSettings = field(default_factory=MintSettings)
    audit: AuditSettings = field(default_factory=AuditSettings)
    log: LogSettings = field(default_factory=LogSettings)
    reload: ReloadSettings = field(default_factory=ReloadSettings)
    rails: tuple[RailSettings, ...] = field(
        default=(RailSettings(), RailSettings(method="bolt12"), RailSettings(method="onchain")), metadata=RESTART
    )

    @property
    def store_path(self) -> Path:
        """The SQLite file or the RocksDB directory (meaningful where `store.dsn` is None)."""
        return self.store.path or self.data_dir / f"bank.{self.store.engine.value}"

    @property
    def admin_socket(self) -> Path:
        """The operator's unix socket."""
        return self.data_dir / "admin.sock"

    @property
    def limits(self) -> Limits:
        """Bounds on what comes from outside: the section `mint.limits`."""
        return self.mint.limits

    @property
    def play(self) -> bool:
        """Whether any rail is play money."""
        return any(rail.play for rail in self.rails)
