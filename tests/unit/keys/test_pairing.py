"""Certificates of bank and signer: made, renewed, out of date, damaged, open to others."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from specie.app.system import SystemClock
from specie.kernel.errors import UnavailableError
from specie.keys.adapters.pairing import Pairing, make_pairing
from specie.keys.adapters.remote import RemoteSigner
from specie.keys.adapters.software import SoftwareSigner
from specie.keys.errors import PairingError, SealFileUnsafeError
from tests.support.entropy import CountingEntropy
from tests.support.signer_process import PEER_CREDENTIALS, SignerThread

CLOCK = SystemClock()
NOW = 1_800_000_000
DAY = 86_400


def test_each_side_gets_its_key_and_the_others_certificate(tmp_path: Path) -> None:
    """Four files of mode 0600; no key is on both sides; TLS takes what was made."""
    ours, theirs = make_pairing(tmp_path / "signer", tmp_path / "bank", now=NOW, days=30)
    files = [ours.identity, ours.peer, theirs.identity, theirs.peer]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert ["PRIVATE KEY" in path.read_text() for path in files] == [True, False, True, False]
    assert ours.expires(NOW) == theirs.expires(NOW) == NOW + 30 * DAY
    ours.context(NOW, server=True)
    theirs.context(NOW, server=False)


def test_nothing_is_replaced_unless_told(tmp_path: Path) -> None:
    """A second pairing is refused and changes nothing; a renewal changes both sides' files."""
    ours, theirs = make_pairing(tmp_path / "s", tmp_path / "b", now=NOW, days=1)
    before = ours.identity.read_bytes(), theirs.identity.read_bytes()
    with pytest.raises(PairingError, match="--renew"):
        make_pairing(tmp_path / "s", tmp_path / "b", now=NOW, days=1)
    assert (ours.identity.read_bytes(), theirs.identity.read_bytes()) == before
    make_pairing(tmp_path / "s", tmp_path / "b", now=NOW, days=2, renew=True)
    assert ours.identity.read_bytes() != before[0]
    assert ours.expires(NOW) == NOW + 2 * DAY


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_renewal_by_root_leaves_the_files_to_their_users(tmp_path: Path) -> None:
    """The owner of each file stays, its content does not."""
    ours, theirs = make_pairing(tmp_path / "s", tmp_path / "b", now=NOW, days=1)
    before = theirs.identity.read_bytes()
    os.chown(theirs.identity, 65534, 65534)
    make_pairing(tmp_path / "s", tmp_path / "b", now=NOW, days=1, renew=True)
    status = theirs.identity.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (65534, 65534, 0o600)
    assert ours.identity.stat().st_uid == 0
    assert theirs.identity.read_bytes() != before


def test_time_is_told_before_anybody_is_asked(tmp_path: Path) -> None:
    """Out of date, and not yet good, with the date and what to do; a clock some minutes slow is forgiven."""
    ours, theirs = make_pairing(tmp_path / "s", tmp_path / "b", now=NOW, days=1)
    with pytest.raises(PairingError, match=r"ended on 2027-01-16; make new ones"):
        theirs.context(NOW + 2 * DAY, server=False)
    with pytest.raises(PairingError, match="is the clock right"):
        ours.expires(NOW - DAY)
    assert ours.expires(NOW - 300) == NOW + DAY


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    """Missing, no certificate, no key, another's key, too long, open to others."""
    ours, _ = make_pairing(tmp_path / "s", tmp_path / "b", now=NOW, days=1)
    other, _ = make_pairing(tmp_path / "os", tmp_path / "ob", now=NOW, days=1)
    with pytest.raises(PairingError, match="cannot be read"):
        Pairing(tmp_path / "none", ours.peer).expires(NOW)
    spoilt = tmp_path / "spoilt"
    spoilt.touch(mode=0o600)
    for content, reason in (
        ("nothing", "holds no certificate"),
        (ours.peer.read_text(), "holds no key"),
        (other.identity.read_text().partition("-----BEGIN CERT")[0] + ours.peer.read_text(), "holds no key"),
        ("x" * 30_000, "too long"),
    ):
        spoilt.write_text(content)
        with pytest.raises(PairingError, match=reason) as caught:
            Pairing(spoilt, ours.peer).context(NOW, server=True)
        assert caught.value.path == str(spoilt)
    ours.peer.chmod(0o620)
    with pytest.raises(PairingError, match="others may change it"):
        ours.expires(NOW)
    ours.peer.chmod(0o644)
    ours.expires(NOW)
    ours.identity.chmod(0o640)
    with pytest.raises(SealFileUnsafeError, match="open to other users"):
        ours.expires(NOW)


def test_only_the_very_certificate_is_the_peer(tmp_path: Path) -> None:
    """None, another's, and a file that holds none, are not the pinned one."""
    ours, theirs = make_pairing(tmp_path / "s", tmp_path / "b", now=NOW, days=1)
    import ssl

    der = ssl.PEM_cert_to_DER_cert(ours.peer.read_text().strip())
    assert ours.is_peer(der)
    assert not ours.is_peer(None)
    assert not theirs.is_peer(der)
    ours.peer.write_text("nothing")
    assert not ours.is_peer(der)


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A file where the directory should be."""
    (tmp_path / "file").touch()
    with pytest.raises(UnavailableError, match="cannot be written"):
        make_pairing(tmp_path / "file", tmp_path / "b", now=NOW, days=1)


@pytest.mark.skipif(not PEER_CREDENTIALS, reason="this system has no SO_PEERCRED")
async def test_certificates_are_renewed_without_a_restart_of_the_signer() -> None:
    """New files on both sides serve the next connection; an old certificate does no longer, an expired one never."""
    thread = SignerThread(SoftwareSigner(bytes(32), threads=0, entropy=CountingEntropy()))
    signer, bank = thread.home / "signer", thread.home / "bank"
    try:
        old = bank.rename(thread.home / "old")
        make_pairing(signer, bank, now=CLOCK.now(), days=1, renew=True)
        assert (await RemoteSigner.probe(thread.place, thread.bank, clock=CLOCK)).version == 1
        await thread.tells("they end in less than")
        with pytest.raises(UnavailableError):
            await RemoteSigner.probe(thread.place, Pairing(old / "bank.pem", old / "signer.crt"), clock=CLOCK)
        make_pairing(signer, bank, now=CLOCK.now() - 2 * DAY, days=1, renew=True)
        with pytest.raises(PairingError, match="ended on"):
            await RemoteSigner.probe(thread.place, thread.bank, clock=CLOCK)
        make_pairing(thread.home / "x", bank, now=CLOCK.now(), days=1, renew=True)
        with pytest.raises(UnavailableError):
            await RemoteSigner.probe(thread.place, thread.bank, clock=CLOCK)
        await thread.tells("ended on")
    finally:
        thread.stop()
