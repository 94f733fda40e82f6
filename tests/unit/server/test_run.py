"""Real sockets on loopback: listening, the operator's socket, draining, signals and WebSockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
from dataclasses import replace

import httpx2
import pytest
import websockets

from specie.ecash import MintQuoteRequest
from specie.kernel import RefusedError, UnavailableError
from specie.ops.settings import ServerSettings
from specie.server import Listening, admin_client, build_admin, serve
from specie.server.errors import SocketInUseError
from specie.server.run import bind_tcp_socket
from specie.server.unix_socket import bind_unix_socket, reachable_name, remove_unix_socket

pytestmark = pytest.mark.network


@contextlib.asynccontextmanager
async def running(served, path=None, app=None, signals=False, **settings):
    """The bank on a free port of loopback; gives where, the stop event and the task."""
    settings = replace(ServerSettings(port=0, drain_s=5), **settings)
    listening: asyncio.Future[Listening] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    drained = []
    task = asyncio.create_task(
        serve(
            app or served.app,
            settings,
            admin=build_admin(served.context) if path else None,
            admin_socket=path,
            stop=stop,
            announce=listening.set_result,
            draining=lambda: drained.append(1),
            signals=signals,
        )
    )
    try:
        async with asyncio.timeout(10):
            await asyncio.wait([listening, task], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                await task
            yield listening.result(), stop, task
    finally:
        stop.set()
        async with asyncio.timeout(10):
            await task
    assert drained == [1]


async def test_it_serves_tcp_and_the_operators_socket(served, tmp_path):
    """Both at once; the socket is 0600, the operator's paths are not on TCP, and the file goes away at the end."""
    path = tmp_path / "admin.sock"
    async with running(served, path) as (listening, _, _), httpx2.AsyncClient(base_url=listening.url) as client:
        assert listening.admin_socket == path
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        answer = await client.get("/v1/info")
        assert answer.json()["name"] == "Test <b>bank</b>"
        assert "server" not in answer.headers
        assert (await client.get("/books")).status_code == 404
        assert (await client.post("/stop")).status_code == 404
        async with admin_client(path) as operator:
            assert (await operator.keysets())[0]["active"]
    assert not path.exists()
    with pytest.raises(UnavailableError, match="no bank"):
        async with admin_client(path) as operator:
            await operator.books()


async def test_a_websocket_over_tcp_hears_a_payment_and_is_closed_by_a_stop(served):
    """The whole way through a real socket; a stop tells it 1012."""
    quote = await served.house.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 8))
    async with running(served) as (listening, stop, _):
        url = listening.url.replace("http", "ws") + "/v1/ws"
        async with websockets.connect(url) as connection:
            params = {"kind": "bolt11_mint_quote", "subId": "s", "filters": [quote.quote]}
            await connection.send(json.dumps({"jsonrpc": "2.0", "method": "subscribe", "params": params, "id": 1}))
            assert json.loads(await connection.recv())["result"]["status"] == "OK"
            assert json.loads(await connection.recv())["params"]["payload"]["state"] == "UNPAID"
            await served.house.pay(quote)
            assert json.loads(await connection.recv())["params"]["payload"]["state"] == "PAID"
            stop.set()
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await connection.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012


async def test_a_running_request_ends_before_the_bank_does(served):
    """A stop lets it finish, and takes no new connection."""
    entered, held = asyncio.Event(), asyncio.Event()

    class Slow:
        def __getattr__(self, name):
            return getattr(served.house.mint, name)

        async def check_state(self, ys):
            entered.set()
            await held.wait()
            return []

    served.rebuild(mint=Slow())
    async with running(served) as (listening, stop, task), httpx2.AsyncClient(base_url=listening.url) as client:
        request = asyncio.create_task(client.post("/v1/checkstate", content=b'{"Ys":[]}'))
        await entered.wait()
        stop.set()
        while True:
            try:
                async with httpx2.AsyncClient(base_url=listening.url) as late:
                    await late.get("/livez")
            except httpx2.TransportError:
                break
        assert not task.done()
        held.set()
        assert (await request).status_code == 200


async def test_signals_stop_it(served):
    """SIGTERM begins the stop; afterwards the handlers are those that were there before."""
    before = signal.getsignal(signal.SIGTERM)
    async with running(served, signals=True) as (_, stop, task):
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(5):
            await asyncio.wait([task])
        assert stop.is_set()
    assert signal.getsignal(signal.SIGTERM) == before


async def test_a_second_signal_does_not_wait(served):
    """A request that never ends holds a first stop, and not a second one."""
    entered = asyncio.Event()

    class Stuck:
        def __getattr__(self, name):
            return getattr(served.house.mint, name)

        async def check_state(self, ys):
            entered.set()
            await asyncio.Event().wait()

    served.rebuild(mint=Stuck())
    async with (
        running(served, signals=True, drain_s=600) as (listening, _, task),
        httpx2.AsyncClient(base_url=listening.url) as client,
    ):
        request = asyncio.create_task(client.post("/v1/checkstate", content=b'{"Ys":[]}'))
        await entered.wait()
        os.kill(os.getpid(), signal.SIGINT)
        while not (await asyncio.wait([task], timeout=0.3))[0]:
            os.kill(os.getpid(), signal.SIGINT)
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)


async def test_a_taken_port_and_a_foreign_host_are_told(served):
    """Before anything is served, in words."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SocketInUseError, match="--port"):
            bind_tcp_socket("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(SocketInUseError):
            await serve(served.app, ServerSettings(port=taken.getsockname()[1]), stop=asyncio.Event(), announce=print)
    with pytest.raises(RefusedError, match="cannot listen"):
        bind_tcp_socket("192.0.2.1", 0)


def test_urls():
    """What is announced can be opened."""
    assert Listening("0.0.0.0", 5, None).url == "http://127.0.0.1:5"
    assert Listening("::1", 5, None).url == "http://[::1]:5"
    assert Listening("::", 5, None).url == "http://[::1]:5"


def test_a_socket_left_by_the_dead_is_replaced_and_one_in_use_is_not(tmp_path):
    """Stale files go; a living bank stays; a file that is no socket is left alone."""
    path = tmp_path / "admin.sock"
    first = bind_unix_socket(path)
    first.close()
    assert path.exists()
    second = bind_unix_socket(path)
    second.listen()
    with pytest.raises(SocketInUseError, match="is running"):
        bind_unix_socket(path)
    second.close()
    remove_unix_socket(path)
    remove_unix_socket(path)
    path.write_text("precious")
    with pytest.raises(RefusedError, match="no socket"):
        bind_unix_socket(path)
    assert path.read_text() == "precious"
    with pytest.raises(RefusedError, match="cannot be made"):
        bind_unix_socket(tmp_path / "absent" / "admin.sock")


async def test_long_paths_work(served, tmp_path):
    """A data directory deeper than a socket address is long."""
    deep = tmp_path
    while len(str(deep)) < 200:
        deep = deep / "directory"
    deep.mkdir(parents=True)
    async with running(served, deep / "admin.sock"), admin_client(deep / "admin.sock") as operator:
        assert (await operator.health())["state"] == "ok"
    assert list(deep.iterdir()) == []
    with pytest.raises(UnavailableError), reachable_name(deep / "absent" / "admin.sock"):
        pass


def test_the_umask_of_the_process_is_left_as_it_was(tmp_path):
    """Making the socket changes it for an instant only; the socket is never open to others."""
    before = os.umask(0)
    os.umask(before)
    bind_unix_socket(tmp_path / "a.sock").close()
    after = os.umask(before)
    assert after == before
    assert stat.S_IMODE((tmp_path / "a.sock").stat().st_mode) == 0o600


async def test_a_worker_is_patient_with_sigterm_and_not_with_sigint(served):
    """SIGTERM reaches a worker from its supervisor and from a service manager as well: only SIGINT does not wait."""
    entered = asyncio.Event()

    class Stuck:
        def __getattr__(self, name):
            return getattr(served.house.mint, name)

        async def check_state(self, ys):
            entered.set()
            await asyncio.Event().wait()

    served.rebuild(mint=Stuck())
    listener = bind_tcp_socket("127.0.0.1", 0, shared=True)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    up = asyncio.Event()
    task = asyncio.create_task(
        serve(
            served.app,
            ServerSettings(drain_s=600),
            stop=asyncio.Event(),
            announce=lambda _: up.set(),
            listener=listener,
        )
    )
    await up.wait()
    async with httpx2.AsyncClient(base_url=url) as client:
        request = asyncio.create_task(client.post("/v1/checkstate", content=b'{"Ys":[]}'))
        await entered.wait()
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
            assert not (await asyncio.wait([task], timeout=0.5))[0]
        while not (await asyncio.wait([task], timeout=0.3))[0]:
            os.kill(os.getpid(), signal.SIGINT)
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
