"""The signer's composition root: a seed, opened in a process that does nothing else, and served on a unix socket.

It knows no HTTP, no store and no money; import-linter holds that it reaches neither `server` nor `mint`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from specie.app.directory import owned_directory
from specie.app.system import SystemClock, SystemEntropy, forbid_memory_dumps
from specie.kernel.clock import Clock
from specie.kernel.entropy import Entropy
from specie.kernel.telemetry import NullTelemetry
from specie.keys import OpenedSeed, SealSource, Signer
from specie.keys.adapters.native_batch import NativeBatch, Unbuilt, native_batch
from specie.keys.adapters.pairing import Pairing, make_pairing
from specie.keys.adapters.policy_file import ReservationFile, policy_from_file
from specie.keys.adapters.seed_store import SeedStore
from specie.keys.adapters.signer_server import SignerServer, Tell, bind_signer_socket
from specie.keys.adapters.software import SoftwareSigner
from specie.keys.engine.guarded import GuardedSigner

__all__ = ["RunningSigner", "SignerSettings", "default_signer_dir", "open_signer", "pair_signer"]


def default_signer_dir() -> Path:
    """Where a signer keeps its seed unless told otherwise: `signer` in the user's data home."""
    return Path(platformdirs.user_data_dir("specie")) / "signer"


@dataclass(frozen=True, slots=True)
class SignerSettings:
    """What a signer is told."""

    data_dir: Path
    """Directory of the sealed seed and of the signer's half of the pairing."""
    socket: Path
    users: frozenset[int]
    """Uids that may connect."""
    source: SealSource
    play: bool = False
    """Whether it may keep its seed under a key file, which is for play money only."""
    group: int | None = None
    """Gid that may reach the socket; its owner alone if None."""
    native: bool = True
    """As `keys.native` of a bank."""
    policy: Path | None = None
    """What the keys may be used for; everything if None."""

    @property
    def pairing(self) -> Pairing:
        """The signer's half of the pairing."""
        return Pairing(self.data_dir / "signer.pem", self.data_dir / "bank.crt")


@dataclass(frozen=True, slots=True)
class RunningSigner:
    """A signer that takes connections."""

    settings: SignerSettings
    sealed: OpenedSeed
    """How the seed is kept; the seed itself is in the signer alone."""
    curve: str
    """As `Bank.curve`."""
    identity: bytes
    """33 bytes: a public key that tells this seed from others."""
    expires: int
    """Unix time at which the first of the two certificates ends."""
    rules: int
    """Of the policy."""


@contextlib.asynccontextmanager
async def open_signer(
    settings: SignerSettings, *, tell: Tell, clock: Clock | None = None, entropy: Entropy | None = None
) -> AsyncIterator[RunningSigner]:
    """Open the seed (on first use make one) and serve it; on the way out answer what is under way, and forget the keys.

    Before the seed is read, dumps and other processes' looks at this memory are forbidden. DataDirectoryInUseError;
    PairingError before anything is opened, if there is no pairing that is good now, and MalformedError or UnavailableError for
    a policy; errors as of `SeedStore`.
    """
    clock, entropy = clock or SystemClock(), entropy or SystemEntropy()
    forbid_memory_dumps()
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(owned_directory(settings.data_dir, busy="another process runs the signer in"))
        expires = settings.pairing.expires(clock.now())
        rules = () if settings.policy is None else policy_from_file(settings.policy)
        sealed = SeedStore(settings.data_dir, entropy=entropy).open_or_create(settings.source, all_play=settings.play)
        batch = native_batch() if settings.native else Unbuilt("native code is switched off")
        signer: Signer = SoftwareSigner(sealed.seed, entropy=entropy, batch=batch if isinstance(batch, NativeBatch) else None)
        stack.push_async_callback(signer.close)
        identity = await signer.public_key("signer")
        if rules:
            kept = ReservationFile(settings.data_dir / "reserved.json")
            signer = GuardedSigner(signer, rules, kept, clock=clock, telemetry=_Told(tell))
        sealed = OpenedSeed(b"", sealed.kind, sealed.created, sealed.where)
        listener = bind_signer_socket(settings.socket, group=settings.group)
        stack.callback(settings.socket.unlink, missing_ok=True)
        server = SignerServer(signer, listener, settings.pairing, clock=clock, users=settings.users, tell=tell)
        stack.push_async_callback(server.close)
        await server.start()
        curve = f"binding: {batch.reason}" if isinstance(batch, Unbuilt) else "native"
        yield RunningSigner(settings, sealed, curve, identity, expires, len(rules))


class _Told(NullTelemetry):
    """Events as lines of the signer's log."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    def event(self, name: str, /, **facts: object) -> None:
        """Write it."""
        self._tell(name, **facts)


def pair_signer(
    data_dir: Path, bank: Path, *, days: int, renew: bool, clock: Clock | None = None
) -> tuple[Pairing, Pairing, int]:
    """Make the certificates of both sides; what each holds, and the Unix time they end. Errors as of `make_pairing`."""
    now = (clock or SystemClock()).now()
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    ours, theirs = make_pairing(data_dir, bank, now=now, days=days, renew=renew)
    return ours, theirs, ours.expires(now)
