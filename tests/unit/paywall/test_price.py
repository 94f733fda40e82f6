"""What a resource costs: which price fits, and that no spelling of a path gets around one."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specie.kernel import MalformedError, RefusedError
from specie.paywall import Price, price_from_text
from specie.paywall.config import load_paywall
from specie.paywall.price import price_for
from specie.paywall.run import address_from_text
from specie.wallet.paid import Settle

PRICES = (Price("GET", "/free/sample", 0), Price("*", "/paid/*", 21), Price("POST", "/api", 5), Price("GET", "/one", 7))

names = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("method", "path", "amount"),
    [
        ("GET", "/paid/x", 21),
        ("HEAD", "/paid/x", 21),
        ("DELETE", "/paid/", 21),
        ("GET", "/one", 7),
        ("HEAD", "/one", 7),
        ("POST", "/one", None),
        ("POST", "/api", 5),
        ("GET", "/api", None),
        ("GET", "/free/sample", 0),
        ("GET", "/", None),
        ("GET", "/paid", None),
        ("GET", "/one/more", None),
    ],
)
def test_the_first_price_that_fits(method: str, path: str, amount: int | None) -> None:
    """Method and path decide; what has no price is free; HEAD costs what GET does."""
    found = price_for(PRICES, method, path)
    assert (None if found is None else found.amount) == amount


@pytest.mark.parametrize(
    "path",
    [
        *("//paid/x", "/./paid/x", "/free/../paid/x", "/paid//x", "/%70aid/x", "/free/%2e%2e/paid/x", "/free%2f..%2fpaid/x"),
        *(
            "/\\paid/x",
            "/free\\..\\paid\\x",
            "/%2570aid/x",
            "///paid/../paid/x",
            "/free/sample/../../paid/x",
            "/one/",
            "/one/.",
        ),
    ],
)
def test_other_spellings_cost_the_same(path: str) -> None:
    """Dots, double slashes, backslashes and percent signs that an application may undo do not make a resource free."""
    found = price_for(PRICES, "GET", path)
    assert found is not None
    assert found.amount in (7, 21)


@settings(max_examples=200, deadline=None)
@given(
    name=names,
    dots=st.lists(st.sampled_from(["/.", "//", "/x/..", "/%2e", "/x/%2E%2E"]), max_size=4),
    encoded=st.integers(0, 2),
)
def test_no_spelling_is_free(name: str, dots: list[str], encoded: int) -> None:
    """However a priced path is written, its price is found."""
    path = "".join(dots) + "/paid/" + name
    for _ in range(encoded):
        path = quote(path, safe="/")
    found = price_for(PRICES, "GET", path)
    assert found is not None
    assert found.amount == 21


@settings(max_examples=100, deadline=None)
@given(amount=st.integers(0, 2**63), method=st.sampled_from(["GET", "POST", "*"]), name=names, star=st.sampled_from(["", "*"]))
def test_prices_are_read_as_they_are_written(amount: int, method: str, name: str, star: str) -> None:
    """`METHOD /path=AMOUNT` says exactly that."""
    assert price_from_text(f"{method} /{name}{star}={amount}") == Price(method, f"/{name}{star}", amount)
    assert price_from_text(f" {method} /{name}={amount} usd ").unit == "usd"


@pytest.mark.parametrize(
    "text",
    ["", "GET", "/x=5", "GET x=5", "get /x=5", "GET /x", "GET /x=", "GET /x=-1", "GET /x=1.5", "GET /*/x=1", "GET /x=1 a b"],
)
def test_prices_that_say_nothing(text: str) -> None:
    """What is not written like a price is refused."""
    with pytest.raises(MalformedError):
        price_from_text(text)


def test_prices_that_cannot_be_meant() -> None:
    """Settling later without a lock, amounts out of range, a negative cap, no unit."""
    for bad in (
        lambda: Price("GET", "/x", 5, settle=Settle.LATER),
        lambda: Price("GET", "/x", -1),
        lambda: Price("GET", "/x", 2**64),
        lambda: Price("GET", "/x", 5, cap=-1),
        lambda: Price("GET", "/x", 5, unit=""),
        lambda: Price("GET", "/a*b", 5),
    ):
        with pytest.raises(MalformedError):
            bad()


def test_a_file_of_prices(tmp_path: Path) -> None:
    """Everything that a price can say stands in the file, too."""
    path = tmp_path / "paywall.toml"
    path.write_text(
        'listen = "[::1]:80"\nupstream = "http://127.0.0.1:8000"\nhonour_s = 60\n'
        '[[price]]\npath = "/a/*"\namount = 21\nlocked = true\nsettle = "later"\ncap = 500\n'
        '[[price]]\nmethod = "*"\npath = "/b"\namount = 5\nunit = "usd"\nmints = ["http://mint.test"]\ndescription = "b"\n'
    )
    found = load_paywall(path)
    assert (found.listen, found.upstream, found.honour_s, found.deliveries) == ("[::1]:80", "http://127.0.0.1:8000", 60, 5)
    assert found.prices == (
        Price("GET", "/a/*", 21, locked=True, settle=Settle.LATER, cap=500),
        Price("*", "/b", 5, unit="usd", mints=("http://mint.test",), description="b"),
    )


@pytest.mark.parametrize(
    "text",
    [
        *(
            "x",
            "lisen = 1",
            "[[price]]\npath = 5",
            '[[price]]\npath = "/x"\namount = "5"',
            "[[price]]\namount = 5",
            "honour_s = -1",
        ),
        *(
            "deliveries = 0",
            '[[price]]\npath = "x"\namount = 5',
            '[[price]]\npath = "/x"\namount = 5\nsettle = "later"',
            "a" * 1_000_001,
        ),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, text: str) -> None:
    """A wrong name, type or value is named; nothing is guessed."""
    path = tmp_path / "paywall.toml"
    path.write_text(text)
    with pytest.raises(MalformedError):
        load_paywall(path)
    with pytest.raises(RefusedError):
        load_paywall(tmp_path / "none.toml")


def test_addresses() -> None:
    """HOST:PORT, with brackets for IPv6."""
    assert address_from_text("127.0.0.1:80") == ("127.0.0.1", 80)
    assert address_from_text("[::1]:0") == ("::1", 0)
    for bad in ("", ":80", "host", "host:", "host:x", "host:65536", "host:-1"):
        with pytest.raises(MalformedError):
            address_from_text(bad)
