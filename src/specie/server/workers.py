"""Several processes behind one port: started, watched, replaced one by one, and stopped together.

The supervisor opens no bank. It keeps one worker in each seat, and holds the socket of each: the system spreads connections
over them, and what waits in the queue of one is not lost when its worker is replaced.

    a worker dies        the other sockets get its connections; its seat is taken again at once, then after growing pauses
    restart (SIGHUP)     seat by seat: the new worker takes connections, then the old one drains
    stop (SIGTERM)       all drain; a second signal does not wait for them
    the supervisor dies  each worker sees its line to it closed, and drains

Seat 0 alone serves the operator's socket; it is taken first at the start, and replaced last in a restart. A worker is the
same command line again, so it reads settings and passphrase as its supervisor did; what it needs beside that, which sockets
are its own, is in its environment (`Seat`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from specie.kernel.errors import UnavailableError
from specie.kernel.telemetry import Telemetry

__all__ = ["Seat", "Supervisor"]

_VARIABLE = "_SPECIE_SEAT"
_RETIRE = b"retire\n"
_READY_S = 120.0
"""Within which a new worker must take connections."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 30.0
_FAREWELL_S = 5.0
"""For a worker that did not come up, to tell why."""
_STEADY_S = 60.0
"""A worker that lived this long is started again without a pause."""


@dataclass(frozen=True, slots=True)
class Seat:
    """What a worker is given: its number, how often the seat was taken, and its sockets as file descriptors."""

    number: int
    generation: int
    count: int
    supervisor: int
    """Its process id."""
    listener: int
    line: int
    """A socket to the supervisor: facts go out once, `retire` may come in, its end is the supervisor's."""
    admin: int | None = None

    @staticmethod
    def taken(environ: MutableMapping[str, str]) -> Seat | None:
        """The seat of this process, taken out of its environment; None for a process that nobody supervises."""
        text = environ.pop(_VARIABLE, None)
        return None if text is None else Seat(**json.loads(text))

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The environment of the process that is to take it."""
        return {**environ, _VARIABLE: json.dumps(asdict(self))}

    def ask(self, number: signal.Signals) -> None:
        """Send the supervisor a signal; UnavailableError if it is gone."""
        if os.getppid() != self.supervisor:
            raise UnavailableError("the supervisor of this worker is gone")
        os.kill(self.supervisor, number)

    async def follow(self, facts: Mapping[str, Any], retire: Callable[[bool], None]) -> None:
        """Tell the supervisor that connections are taken, then wait for its word or its end, and `retire`.

        That is told True if another worker serves the port, False if nobody will.
        """
        reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=self.line))
        try:
            writer.write(json.dumps(facts).encode() + b"\n")
            retire(await reader.readline() == _RETIRE)
        except ConnectionError:
            retire(False)
        finally:
            writer.close()


@dataclass(eq=False, slots=True)
class _Worker:
    process: asyncio.subprocess.Process
    seat: Seat
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    began: float

    async def ready(self) -> dict[str, Any] | None:
        """Its facts once it takes connections; None if it died or took too long."""
        try:
            async with asyncio.timeout(_READY_S):
                line = await self.reader.readline()
        except (TimeoutError, ConnectionError, ValueError):
            return None
        return json.loads(line) if line.endswith(b"\n") else None

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def retire(self) -> None:
        """Another one serves the port: finish what runs, and end."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(_RETIRE)

    async def ended(self, within_s: float) -> int:
        """Wait for its end, and make it after `within_s`; its exit code."""
        try:
            async with asyncio.timeout(within_s):
                return await self.process.wait()
        except TimeoutError:
            self.send(signal.SIGKILL)
            return await self.process.wait()
        finally:
            self.writer.close()


class Supervisor:
    """Keeps `count` workers, each running `command` on a socket that `bind` makes; seat 0 has `admin` as well.

    `bind` gives sockets of one port that may be shared, bound and not yet listening. `drain_s` is how long a worker may take
    to end before it is killed. `admin` is the caller's to close.
    """

    def __init__(
        self,
        command: Sequence[str],
        count: int,
        *,
        bind: Callable[[], socket.socket],
        admin: socket.socket,
        telemetry: Telemetry,
        drain_s: float,
    ) -> None:
        self._command = tuple(command)
        self._count = count
        self._bind = bind
        self._listeners: dict[int, socket.socket] = {}
        self._admin = admin
        self._telemetry = telemetry
        self._drain_s = drain_s
        self._workers: dict[int, _Worker] = {}
        self._generation = [0] * count
        self._restart = asyncio.Event()
        self._stop = asyncio.Event()

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers, by seat."""
        return [self._workers[number].process.pid for number in sorted(self._workers)]

    def restart(self) -> None:
        """Replace every worker, one after another; once more if that is being done."""
        self._restart.set()

    def stop(self) -> None:
        """Drain all; called again, do not wait."""
        if self._stop.is_set():
            for worker in self._workers.values():
                worker.send(signal.SIGINT)
        self._stop.set()

    async def run(self, announce: Callable[[dict[str, Any]], None]) -> int:
        """Run until stopped: 0, or the exit code of a worker that could not start at the beginning.

        `announce` is given the facts of seat 0 once all take connections.
        """
        try:
            code = await self._begin_all(announce)
            if code is None:
                await self._run()
            await self._end_all()
        finally:
            for listener in self._listeners.values():
                listener.close()
        return code or 0

    async def _run(self) -> None:
        tasks = [asyncio.create_task(self._keep(number)) for number in range(self._count)]
        tasks.append(asyncio.create_task(self._restart_forever()))
        await self._stop.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _begin_all(self, announce: Callable[[dict[str, Any]], None]) -> int | None:
        """Seat 0 first, for it makes what the others find (schema, keysets); None if all are up."""
        facts: dict[str, Any] = {}
        for seats in ([0], range(1, self._count)):
            begun = [await self._begin(number) for number in seats]
            for worker in begun:
                self._workers[worker.seat.number] = worker
            stopping = asyncio.create_task(self._stop.wait())
            for worker in begun:
                waiting = asyncio.create_task(worker.ready())
                await asyncio.wait([waiting, stopping], return_when=asyncio.FIRST_COMPLETED)
                if self._stop.is_set():
                    waiting.cancel()
                    return 0
                found = await waiting
                if found is None:
                    stopping.cancel()
                    code = await worker.ended(_FAREWELL_S)
                    del self._workers[worker.seat.number]
                    return code if 0 < code < 128 else 70
                facts = facts or found
            stopping.cancel()
        self._telemetry.event("workers_ready", workers=self._count)
        announce(facts | {"workers": self.pids, "supervisor": os.getpid()})
        return None

    async def _begin(self, number: int) -> _Worker:
        if number not in self._listeners:
            self._listeners[number] = self._bind()
        ours, theirs = socket.socketpair()
        self._generation[number] += 1
        seat = Seat(
            number=number,
            generation=self._generation[number],
            count=self._count,
            supervisor=os.getpid(),
            listener=self._listeners[number].fileno(),
            line=theirs.fileno(),
            admin=None if number else self._admin.fileno(),
        )
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                env=seat.environment(os.environ),
                pass_fds=[fd for fd in (seat.listener, seat.line, seat.admin) if fd is not None],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is the supervisor's, which tells each worker once
            )
        finally:
            theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours)
        self._telemetry.event("worker_started", seat=number, generation=seat.generation, worker_pid=process.pid)
        return _Worker(process, seat, reader, writer, asyncio.get_running_loop().time())

    async def _keep(self, number: int) -> None:
        """Take the seat again whenever the worker in it dies."""
        loop, pause_s = asyncio.get_running_loop(), 0.0
        while True:
            worker = self._workers[number]
            code = await worker.process.wait()
            if self._workers[number] is not worker:
                continue  # it was replaced
            if loop.time() - worker.began >= _STEADY_S:
                pause_s = 0.0
            self._telemetry.page("a worker died", seat=number, worker_pid=worker.process.pid, code=code, pause_s=pause_s)
            worker.writer.close()
            if listener := self._listeners.pop(number, None):
                listener.close()  # or the system would go on giving it connections
            await asyncio.sleep(pause_s)
            pause_s = min(_LONGEST_PAUSE_S, max(_FIRST_PAUSE_S, pause_s * 2))
            if self._workers[number] is worker:
                self._workers[number] = await self._begin(number)

    async def _restart_forever(self) -> None:
        while True:
            await self._restart.wait()
            self._restart.clear()
            self._telemetry.event("restart_begun", workers=self._count)
            for number in [*range(1, self._count), 0]:
                if not await self._replace(number):
                    self._telemetry.page("a new worker did not start; the old ones go on", seat=number)
                    break
            else:
                self._telemetry.event("restart_done", workers=self._count)

    async def _replace(self, number: int) -> bool:
        """The new worker takes connections before the old one stops; False, and the old one stays, if it does not."""
        worker = await self._begin(number)
        try:
            ready = await worker.ready() is not None
        except asyncio.CancelledError:
            worker.send(signal.SIGTERM)
            await worker.ended(self._drain_s)
            raise
        if not ready:
            await worker.ended(_FAREWELL_S)
            return False
        old, self._workers[number] = self._workers[number], worker
        old.retire()
        try:
            await old.ended(self._drain_s)
        except asyncio.CancelledError:
            await old.ended(self._drain_s)
            raise
        return True

    async def _end_all(self) -> None:
        for worker in self._workers.values():
            worker.send(signal.SIGTERM)
        await asyncio.gather(*(worker.ended(self._drain_s) for worker in self._workers.values()))
