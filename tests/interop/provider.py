"""A certified OpenID provider as a process (`openid/provider.mjs`), and a user who logs in at its pages."""

from __future__ import annotations

import contextlib
import fcntl
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from urllib.parse import urljoin

import httpx2

from tests.interop.peers import HERE, START_TIMEOUT_S, _end, clean_environment, free_port, peers_directory

__all__ = ["OpenIdProvider", "User", "missing_provider", "redirect_port", "run_provider"]

_FORM = re.compile(r'<form[^>]*action="([^"]+)"[^>]*>(.*?)</form>', re.S)
_INPUT = re.compile(r"<input[^>]*>")
_ATTRIBUTE = re.compile(r'(name|value|type)="([^"]*)"')


def missing_provider() -> str | None:
    """Why the provider cannot be used, or None."""
    directory = peers_directory() / "openid"
    if not (directory / ".stamp").is_file():
        return f"oidc-provider is not installed in {directory}: run scripts/install-peers.sh"
    return "node is missing: run scripts/install-peers.sh" if shutil.which("node") is None else None


@dataclass
class OpenIdProvider:
    """One provider on one port; a restart with another key is a rotation (logins there are then lost)."""

    home: Path
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def discovery(self) -> str:
        return f"http://127.0.0.1:{self.port}/.well-known/openid-configuration"

    def start(self, algorithm: str = "ES256", key: str = "one", *, pkce: bool = True, token_s: int = 120) -> None:
        """Start, or start again, with a key of an algorithm; `pkce`: codes are asked for with it, or may be."""
        self.stop()
        command = ["node", str(HERE / "openid" / "provider.mjs"), str(peers_directory() / "openid"), str(self.port)]
        log_path = self.home / "provider.log"
        with log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, algorithm, key, "required" if pkce else "optional", str(token_s)],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=clean_environment(self.home),
                cwd=self.home,
            )
        end = time.monotonic() + START_TIMEOUT_S
        while "ready" not in log_path.read_text():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the provider did not start:\n{log_path.read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process is not None:
            _end(self._process)
            self._process = None


@contextlib.contextmanager
def run_provider(home: Path) -> Iterator[OpenIdProvider]:
    """A provider for one test, started with ES256."""
    provider = OpenIdProvider(home)
    provider.start()
    try:
        yield provider
    finally:
        provider.stop()


@contextlib.contextmanager
def redirect_port() -> Iterator[None]:
    """Port 33388, where browsers come back to every wallet (NUT-21), for one login at a time among tests that run together."""
    with (Path(tempfile.gettempdir()) / "specie-tests-33388.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class User:
    """Somebody with a browser: follows the provider's pages, logs in and consents."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._browser = httpx2.Client(trust_env=False, timeout=20.0)

    def visit(self, url: str, **form: str) -> str:
        """Go where a wallet sends them, through every form and redirect; the text of the last page."""
        response = self._browser.post(url, data=form) if form else self._browser.get(url)
        for _ in range(20):
            if response.is_redirect:
                response = self._browser.get(urljoin(str(response.url), response.headers["location"]))
                continue
            found = _FORM.search(response.text)
            if found is None:
                return response.text
            response = self._browser.post(
                urljoin(str(response.url), unescape(found.group(1))), data=self._filled(found.group(2))
            )
        raise AssertionError("the provider's pages never end")

    def enter(self, url: str) -> str:
        """Confirm a device code at the address that holds it."""
        page = self._browser.get(url).text
        found = re.search(r'<form[^>]*action="([^"]+)"[^>]*>(.*?)</form>', page, re.S)
        assert found is not None, page
        return self.visit(urljoin(url, unescape(found.group(1))), **self._filled(found.group(2)))

    def _filled(self, inputs: str) -> dict[str, str]:
        values = {"login": self.name, "password": "any"}
        filled: dict[str, str] = {}
        for text in _INPUT.findall(inputs):
            attributes = dict(_ATTRIBUTE.findall(text))
            if "name" in attributes:
                filled[attributes["name"]] = values.get(attributes["name"], unescape(attributes.get("value", "")))
        return filled

    def close(self) -> None:
        self._browser.close()
