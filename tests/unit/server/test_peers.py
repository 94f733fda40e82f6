"""Who is asking: forwarding headers count only from trusted proxies, and the limiter forgets no faster than it must."""

from __future__ import annotations

import pytest

from specie.server.peers import PeerRule, RateLimiter


def scope(client: str | None, **headers: str):
    return {
        "client": (client, 1) if client else None,
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }


@pytest.mark.parametrize(
    ("client", "headers", "name", "local"),
    [
        ("127.0.0.1", {}, "127.0.0.1", True),
        ("::1", {}, "::1", True),
        ("::ffff:127.0.0.1", {}, "127.0.0.1", True),
        ("::ffff:203.0.113.7", {}, "203.0.113.7", False),
        ("203.0.113.7", {}, "203.0.113.7", False),
        ("2001:db8:1:2:3:4:5:6", {}, "2001:db8:1:2::/64", False),
        ("fe80::1%eth0", {}, "fe80::/64", False),
        (None, {}, "unknown", False),
        ("nonsense", {}, "unknown", False),
        # Nobody is trusted to forward: the proxy itself is the peer, and not local.
        ("127.0.0.1", {"x_forwarded_for": "203.0.113.7"}, "127.0.0.1", False),
        ("127.0.0.1", {"forwarded": "for=203.0.113.7"}, "127.0.0.1", False),
        ("203.0.113.7", {"x_forwarded_for": "127.0.0.1"}, "203.0.113.7", False),
    ],
)
def test_without_trusted_proxies(client, headers, name, local):
    """The address of the connection, IPv6 by its /64; a forwarding header never makes anyone local."""
    peer = PeerRule().peer(scope(client, **headers))
    assert (peer.name, peer.local) == (name, local)


@pytest.mark.parametrize(
    ("forwarded", "name", "local"),
    [
        ("203.0.113.7", "203.0.113.7", False),
        ("6.6.6.6, 203.0.113.7", "203.0.113.7", False),
        ("6.6.6.6, 203.0.113.7, 10.0.0.2", "203.0.113.7", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("garbage", "unknown", False),
        ("10.0.0.3", "10.0.0.1", False),
        ("", "unknown", False),
    ],
)
def test_behind_trusted_proxies(forwarded, name, local):
    """The nearest hop that is no proxy of ours; what it claims of others counts for nothing."""
    peer = PeerRule(["10.0.0.0/8"]).peer(scope("10.0.0.1", x_forwarded_for=forwarded))
    assert (peer.name, peer.local) == (name, local)


def test_a_burst_then_the_sustained_rate():
    """Burst of 5, then one a second, over any stretch of time."""
    limiter = RateLimiter(60, 5, 1000)
    passed = sum(limiter.take("a", 0.0) == 0 for _ in range(50))
    assert passed == 5
    assert limiter.take("a", 0.0) == pytest.approx(1.0)
    total = passed + sum(limiter.take("a", tick / 10) == 0 for tick in range(1, 1001))
    assert total == 105


def test_memory_is_bounded():
    """A million peers cost no more than the bound; the most recent are remembered."""
    limiter = RateLimiter(60, 1, 100)
    for index in range(1000):
        assert limiter.take(f"peer{index}", 0.0) == 0.0
    assert len(limiter) == 100
    assert limiter.take("peer999", 0.0) > 0
    assert limiter.take("peer0", 0.0) == 0.0


def test_no_limit():
    """0 a minute switches it off and remembers nobody."""
    limiter = RateLimiter(0, 1, 100)
    assert all(limiter.take("a", 0.0) == 0.0 for _ in range(100))
    assert len(limiter) == 0


@pytest.mark.parametrize(
    ("before", "after", "wait_s"),
    [((1, 240), (60, 5), 1.0), ((60, 240), (60, 5), 1.0), ((1, 1), (600, 1), 0.1), ((1, 1), (600, 10), 0.1)],
)
def test_other_rules_lock_nobody_out(before, after, wait_s):
    """A looser rate or a smaller burst: who had used up all waits as the new rules have it, and then passes at their rate."""
    limiter = RateLimiter(*before, 100)
    while limiter.take("a", 0.0) == 0.0:
        pass
    limiter.change(*after, 100)
    assert limiter.take("a", 0.0) == pytest.approx(wait_s)
    assert limiter.take("a", wait_s / 2) == pytest.approx(wait_s / 2)
    for turn in range(1, 5):
        assert limiter.take("a", turn * wait_s) == 0.0
        assert limiter.take("a", turn * wait_s) == pytest.approx(wait_s)
