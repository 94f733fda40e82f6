"""Load from processes of their own: ready-made HTTP/1.1 requests over keep-alive connections.

In the timed window a client writes bytes that were prepared before and reads answers; nothing else. Only answers with a
Content-Length are understood, which is what our server sends. A closed loop sends on each connection as soon as the last
answer is there. An open loop (`rate`) sends when requests are due, whatever the answers do, and counts latency from then:
a request that waited for a free connection has waited.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from typing import cast

import uvloop

from bench.bank import BenchError

__all__ = ["Answer", "Clients", "Outcome", "request_bytes"]

_START_DELAY_S = 0.05
_PATIENCE_S = 300.0
"""How long after its window a client process may take; then whoever it asks has hung."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and body; status 0 means that the connection broke."""

    status: int
    body: bytes


@dataclass
class Outcome:
    """What became of some requests. `latencies_s` are those of answers 200; `answers` go by the request's place."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    failed: int = 0
    answers: dict[int, Answer] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Job:
    host: str
    port: int
    requests: Sequence[tuple[int, bytes]]
    connections: int
    seconds: float | None
    repeat: bool
    start_at: float
    """CLOCK_MONOTONIC, which all processes of a machine share."""
    rate: float | None = None
    """Requests a second of this process in an open loop; None for a closed one."""


def request_bytes(method: str, path: str, body: bytes = b"") -> bytes:
    """One HTTP/1.1 request as it goes over the wire."""
    head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


class _Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._need = 0
        self._head = 0
        self._waiter: asyncio.Future[Answer] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> asyncio.Future[Answer]:
        self._waiter = asyncio.get_running_loop().create_future()
        if self._transport is None or self._transport.is_closing():
            self._waiter.set_result(Answer(0, b"connection lost"))
        else:
            self._transport.write(request)
        return self._waiter

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        if not self._need:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(buffer[:end]).lower()
            at = head.find(b"\r\ncontent-length:")
            length = int(head[at + 17 :].partition(b"\r\n")[0]) if at >= 0 else 0
            self._head, self._need = end + 4, end + 4 + length
        if len(buffer) < self._need:
            return
        answer = Answer(int(buffer[9:12]), bytes(buffer[self._head : self._need]))
        buffer.clear()
        self._need = 0
        self._tell(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._tell(Answer(0, b"connection lost"))

    def _tell(self, answer: Answer) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(answer)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def _drive(job: _Job) -> Outcome:
    loop = asyncio.get_running_loop()
    connections = [(await loop.create_connection(_Connection, job.host, job.port))[1] for _ in range(job.connections)]
    supply: Iterable[tuple[int, bytes]] = itertools.cycle(job.requests) if job.repeat else iter(job.requests)
    requests = iter(supply)
    outcome = Outcome()
    clock = time.monotonic
    await asyncio.sleep(max(0.0, job.start_at - clock()))
    start, cpu = clock(), time.process_time()
    deadline = start + job.seconds if job.seconds else float("inf")

    slots = itertools.count()

    async def one(connection: _Connection) -> None:
        while (sent := start + next(slots) / job.rate if job.rate else clock()) < deadline:
            place, request = next(requests, (-1, b""))
            if place < 0:
                return
            if job.rate and (wait := sent - clock()) > 0:
                await asyncio.sleep(wait)
            answer = await connection.ask(request)
            if answer.status == 200:
                outcome.latencies_s.append(clock() - sent)
            else:
                outcome.failed += 1
            if not job.repeat or answer.status != 200:
                outcome.answers[place] = answer
            if not answer.status:
                return

    await asyncio.gather(*(one(connection) for connection in connections))
    outcome.wall_s, outcome.cpu_s = clock() - start, time.process_time() - cpu
    for connection in connections:
        connection.close()
    return outcome


def _serve(pipe: Pipe) -> None:
    """Life of a client process: jobs in, outcomes out, until None."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        while (job := pipe.recv()) is not None:
            try:
                pipe.send(runner.run(_drive(job)))
            except Exception as error:
                pipe.send(error)


class Clients:
    """Client processes against one server."""

    def __init__(self, host: str, port: int, processes: int = 1) -> None:
        self._host, self._port = host, port
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Pipe] = []
        self._processes = []
        for _ in range(processes):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes:
            pipe.send(None)
        for process in self._processes:
            process.join(5)
            if process.is_alive():
                process.kill()

    @property
    def pids(self) -> list[int]:
        """The client processes."""
        return [process.pid for process in self._processes if process.pid is not None]

    def fire(
        self,
        requests: Sequence[bytes],
        connections: int,
        *,
        seconds: float | None = None,
        repeat: bool = False,
        rate: float | None = None,
    ) -> Outcome:
        """Send requests until they, or `seconds`, run out; what is under way is waited for. `repeat`: begin again at the end.

        `rate`: requests a second in an open loop. Bodies of answers 200 are not kept with `repeat`. BenchError if answers
        do not come.
        """
        used = self._pipes[: max(1, min(len(self._pipes), connections))]
        start_at = time.monotonic() + _START_DELAY_S + connections * 0.002
        numbered = list(enumerate(requests))
        for at, pipe in enumerate(used):
            share = connections // len(used) + (at < connections % len(used))
            mine = numbered if repeat else numbered[at :: len(used)]
            paced = None if rate is None else rate * share / connections
            pipe.send(_Job(self._host, self._port, mine, share, seconds, repeat, start_at, paced))
        total = Outcome()
        patience = time.monotonic() + (seconds or 0.0) + _PATIENCE_S
        for pipe in used:
            if not pipe.poll(max(0.0, patience - time.monotonic())):
                raise BenchError(f"no answer to what was sent within {_PATIENCE_S:.0f} s")
            part = pipe.recv()
            if isinstance(part, Exception):
                raise part
            total.wall_s = max(total.wall_s, part.wall_s)
            total.cpu_s += part.cpu_s
            total.latencies_s += part.latencies_s
            total.failed += part.failed
            total.answers |= part.answers
        total.latencies_s.sort()
        return total
