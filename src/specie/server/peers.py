"""Who is asking, and how often they may: the peer behind trusted proxies, and a limiter of bounded memory.

Not here: what an exceeded limit looks like to the peer (`errors`).
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

__all__ = ["Peer", "PeerRule", "RateLimiter", "header"]

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Peer:
    """One asker. `name` is an IPv4 address or an IPv6 /64; `local` only if it is certain to be on this machine."""

    name: str
    local: bool


class PeerRule:
    """Finds the peer of a request. Forwarding headers count only when a trusted proxy wrote them."""

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        self._trusted: tuple[_Network, ...] = tuple(ipaddress.ip_network(network, strict=False) for network in trusted)

    def peer(self, scope: Any) -> Peer:
        """The peer of an ASGI scope. Behind a proxy that is not trusted nobody is `local`."""
        client = scope.get("client")
        host = client[0] if client else ""
        chain: list[str] = []
        forwarded = False
        for name, value in scope["headers"]:
            if name == b"x-forwarded-for":
                forwarded = True
                chain += [part.strip() for part in value.decode("latin-1").split(",")]
            elif name == b"forwarded":
                forwarded = True
        if not forwarded:
            return _peer(host)
        if not self._is_trusted(host):
            return Peer(_peer(host).name, local=False)
        for hop in reversed(chain[-20:]):
            if not self._is_trusted(hop):
                return _peer(hop)
        return Peer(_peer(host).name, local=False)

    def _is_trusted(self, host: str) -> bool:
        address = _address(host)
        return address is not None and any(address in network for network in self._trusted)


@lru_cache(maxsize=4096)
def _address(host: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(maxsize=4096)
def _peer(host: str) -> Peer:
    address = _address(host)
    if address is None:
        return Peer("unknown", local=False)
    if isinstance(address, ipaddress.IPv6Address) and not address.is_loopback:
        return Peer(str(ipaddress.ip_network((address, 64), strict=False)), local=False)
    return Peer(str(address), local=address.is_loopback)


class RateLimiter:
    """Generic cell rate algorithm: `per_minute` sustained, `burst` at once, the state one number a peer.

    At most `peers` are remembered; the longest silent is forgotten first, which can only favour it. 0 a minute: no limit.
    """

    def __init__(self, per_minute: int, burst: int, peers: int) -> None:
        self._arrivals: OrderedDict[str, float] = OrderedDict()
        self.change(per_minute, burst, peers)

    def change(self, per_minute: int, burst: int, peers: int) -> None:
        """Go on under other rules; what peers have used up stays used up, at most a whole burst of the new ones."""
        self._interval_s = 60 / per_minute if per_minute else 0.0
        self._tolerance_s = self._interval_s * (burst - 1)
        self._peers = peers
        while len(self._arrivals) > peers:
            self._arrivals.popitem(last=False)

    def __len__(self) -> int:
        return len(self._arrivals)

    def take(self, peer: str, now: float) -> float:
        """Count one request at `now` (monotonic seconds): 0.0 if it may pass, else seconds until one may."""
        if not self._interval_s:
            return 0.0
        arrivals = self._arrivals
        arrival = max(arrivals.get(peer, now), now)
        most = now + self._tolerance_s + self._interval_s
        if arrival > most:  # of stricter rules, under which it could be far away
            arrival = arrivals[peer] = most
        wait = arrival - now - self._tolerance_s
        if wait > 1e-9:
            return wait
        arrivals[peer] = arrival + self._interval_s
        arrivals.move_to_end(peer)
        if len(arrivals) > self._peers:
            arrivals.popitem(last=False)
        return 0.0


def header(scope: Any, name: bytes) -> str:
    """The first header of an ASGI scope called `name` (lower case), or ""."""
    headers: Sequence[tuple[bytes, bytes]] = scope["headers"]
    for key, value in headers:
        if key == name:
            return value.decode("latin-1")
    return ""
