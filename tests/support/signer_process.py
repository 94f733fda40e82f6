"""A signer behind a unix socket, as `specie signer run` serves it, on a thread of its own with its own event loop."""

from __future__ import annotations

import asyncio
import shutil
import socket
import tempfile
import threading
from pathlib import Path
from typing import Any

from specie.app.system import SystemClock, SystemEntropy
from specie.keys import Signer
from specie.keys.adapters.pairing import Pairing, make_pairing
from specie.keys.adapters.remote import RemoteSigner
from specie.keys.adapters.signer_server import SignerServer, bind_signer_socket
from specie.keys.adapters.software import SoftwareSigner
from tests.support.entropy import CountingEntropy

CLOCK = SystemClock()
PEER_CREDENTIALS = hasattr(socket, "SO_PEERCRED")


class SignerThread:
    """One signer, served until `stop`. Its files lie in a directory with a short name, since socket paths are short."""

    def __init__(self, signer: Signer, *, users: frozenset[int] | None = None, home: Path | None = None) -> None:
        import os

        self.home = home or Path(tempfile.mkdtemp(prefix="signer-"))
        self.place = self.home / "run" / "s.sock"
        self.signer = signer
        self.told: list[dict[str, object]] = []
        self._users = frozenset({os.geteuid()}) if users is None else users
        if home is None:
            self.ours, self.bank = make_pairing(self.home / "signer", self.home / "bank", now=CLOCK.now(), days=30)
        else:
            self.ours = Pairing(home / "signer/signer.pem", home / "signer/bank.crt")
            self.bank = Pairing(home / "bank/bank.pem", home / "bank/signer.crt")
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)
        if self._failed is not None:
            raise self._failed

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:
            self._failed = error
            self._ready.set()
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        listener = bind_signer_socket(self.place)
        server = SignerServer(self.signer, listener, self.ours, clock=CLOCK, users=self._users, tell=self._tell)
        await server.start()
        self._ready.set()
        await self._stop.wait()
        await server.close(grace_s=1.0)
        await self.signer.close()

    def _tell(self, event: str, **facts: object) -> None:
        self.told.append({"event": event, **facts})

    async def tells(self, text: str) -> None:
        """Wait until it has told something with this text in it."""
        for _ in range(1000):
            if any(text in str(value) for one in list(self.told) for value in one.values()):
                return
            await asyncio.sleep(0.005)
        raise AssertionError(f"it never told {text!r}: {self.told}")

    def stop(self, *, forget: bool = True) -> None:
        """Stop serving; with `forget` its files go, too."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)
        if forget:
            shutil.rmtree(self.home, ignore_errors=True)

    def probe(self) -> Any:
        """What it says of itself, asked from a thread of its own, so that a test that runs in a loop need not wait in it."""
        found: list[Any] = []
        asked = threading.Thread(
            target=lambda: found.append(asyncio.run(RemoteSigner.probe(self.place, self.bank, clock=CLOCK)))
        )
        asked.start()
        asked.join(10)
        return found[0]


class ServedSigner(RemoteSigner):
    """A `RemoteSigner` with a served `SoftwareSigner` of its own, which ends with it."""

    def __init__(self, seed: bytes) -> None:
        self.thread = SignerThread(SoftwareSigner(seed, threads=0, entropy=CountingEntropy()))
        super().__init__(
            self.thread.place, self.thread.bank, self.thread.probe(), clock=CLOCK, entropy=SystemEntropy(), deadline_s=20.0
        )

    async def close(self) -> None:
        await super().close()
        await asyncio.to_thread(self.thread.stop)
