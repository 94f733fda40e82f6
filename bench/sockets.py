"""Hundreds of WebSockets (NUT-17) in a process of their own, which subscribe and count what they are told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection as Pipe

import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from bench.bank import BenchError

__all__ = ["Watchers", "watching"]

_AT_ONCE = 20
_OPEN_S = 60.0


class Watchers:
    """Sockets that are open. `told` is how many notices all of them have had."""

    def __init__(self, pipe: Pipe, pid: int) -> None:
        self._pipe = pipe
        self.pid = pid

    def watch(self, ys: Sequence[Sequence[str]]) -> None:
        """Socket n subscribes to the states of `ys[n]`, hex; returns when all were answered."""
        self._ask(("watch", ys))

    @property
    def told(self) -> int:
        """Notices so far, the first states of subscriptions included."""
        return int(self._ask(("told", None)))

    def _ask(self, question: tuple[str, object]) -> int:
        self._pipe.send(question)
        if not self._pipe.poll(_OPEN_S):
            raise BenchError("the sockets do not answer")
        answer = self._pipe.recv()
        if isinstance(answer, str):
            raise BenchError(f"the sockets failed: {answer}")
        return int(answer)


@contextlib.contextmanager
def watching(host: str, port: int, count: int) -> Iterator[Watchers]:
    """That many open sockets at a bank on this machine; closed on the way out."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, f"ws://{host}:{port}/v1/ws", count), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(_OPEN_S):
            raise BenchError(f"{count} sockets did not open in {_OPEN_S:.0f} s")
        opened = ours.recv()
        if opened != count:
            raise BenchError(f"{opened} of {count} sockets opened")
        assert process.pid is not None
        yield Watchers(ours, process.pid)
    finally:
        with contextlib.suppress(OSError):
            ours.send(None)
        process.join(10)
        if process.is_alive():
            process.kill()


def _serve(pipe: Pipe, url: str, count: int) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_Sockets(pipe, url, count).run())


class _Sockets:
    """The sockets themselves, in their process."""

    def __init__(self, pipe: Pipe, url: str, count: int) -> None:
        self._pipe, self._url, self._count = pipe, url, count
        self._told = self._answered = self._round = 0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        gate = asyncio.Semaphore(_AT_ONCE)

        async def opened() -> ClientConnection:
            async with gate:
                return await connect(self._url, open_timeout=_OPEN_S, ping_interval=None, compression=None, proxy=None)

        sockets = [
            socket
            for socket in await asyncio.gather(*(opened() for _ in range(self._count)), return_exceptions=True)
            if not isinstance(socket, BaseException)
        ]
        readers = [loop.create_task(self._read(socket)) for socket in sockets]
        self._pipe.send(len(sockets))
        while (question := await loop.run_in_executor(None, self._pipe.recv)) is not None:
            verb, ys = question
            if verb == "watch":
                try:
                    await self._watch(sockets, ys)
                except (ConnectionClosed, TimeoutError) as error:
                    self._pipe.send(repr(error))
                    continue
            self._pipe.send(self._told)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        await asyncio.gather(*(socket.close() for socket in sockets), return_exceptions=True)

    async def _watch(self, sockets: Sequence[ClientConnection], ys: Sequence[Sequence[str]]) -> None:
        self._round += 1
        wanted = self._answered + len(ys)
        for number, (socket, mine) in enumerate(zip(sockets, ys, strict=False)):
            params = {"kind": "proof_state", "subId": f"{self._round}/{number}", "filters": list(mine)}
            await socket.send(json.dumps({"jsonrpc": "2.0", "id": self._round, "method": "subscribe", "params": params}))
        async with asyncio.timeout(_OPEN_S):
            while self._answered < wanted:
                await asyncio.sleep(0.02)

    async def _read(self, socket: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in socket:
                if '"method"' in str(message):
                    self._told += 1
                else:
                    self._answered += 1
