"""A session with one PKCS#11 token: its keys by label, what it computes, and what becomes of its errors.

Everything here blocks and runs on the module's thread (`token_thread`). Labels are `specie/` and the ref. Keys are generated
in the token, sensitive and never extractable; a key that could leave it is refused, whoever made it.

| what happened                                  | what is found                 | what is done                            |
|------------------------------------------------|-------------------------------|-----------------------------------------|
| session, device or handle is gone              | an error of the library       | the module is initialised anew, once    |
| token vanished and came back                   | a search that finds nothing   | a key known to be there is looked for   |
| killed while a pair was made: public half only | no private key of this label  | `create` replaces it; `find` has no key |
| public half lost or never written              | a private key alone           | its public key is computed from it      |
| two keys of one label, or one that may leave   | two objects; its attributes   | KeyFaultError: none is used             |
| public half of another key                     | a signature that does not fit | KeyFaultError                           |

A session that cannot be opened is tried again after 0.5 s, then twice as long each time, 30 s at most; a PIN that was refused
is never tried again, since tokens lock themselves. The PIN is read for each login and kept nowhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import importlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from specie.kernel import curve
from specie.kernel.errors import MalformedError, RefusedError, UnavailableError
from specie.keys.adapters.token_thread import TokenThread
from specie.keys.errors import KeyFaultError, KeyUnknownError, ProviderMissingError, TokenFullError, TokenPinError

__all__ = ["TokenFacts", "TokenKey", "TokenPlace", "TokenSession"]

T = TypeVar("T")

_CURVE = bytes.fromhex("06052b8104000a")
"""DER of the object identifier 1.3.132.0.10, secp256k1 (SEC 2)."""
_GENERATOR = curve.public_key(bytes(31) + b"\x01")
_SALT = os.urandom(32)
_refused_pins: dict[tuple[str, str], bytes] = {}
"""Of each module and token, the digest of the PIN that was refused last."""
_DIGEST = hashlib.sha256(b"specie: is this the private half of the public key?").digest()
_BACKOFF_S = (0.5, 30.0)
_FRESH_S = 1.0
"""A search that finds nothing is believed this long after the session was opened."""

_PIN = frozenset(
    {"PinExpired", "PinIncorrect", "PinInvalid", "PinLenRange", "PinLocked", "PinTooWeak", "UserPinNotInitialized"}
)
_FULL = frozenset({"DeviceMemory"})
_REFUSED = frozenset(
    {
        *("AttributeReadOnly", "AttributeSensitive", "AttributeTypeInvalid", "AttributeValueInvalid", "ArgumentsBad"),
        *("DataInvalid", "DataLenRange", "DomainParamsInvalid", "EncryptedDataInvalid", "EncryptedDataLenRange"),
        *("FunctionNotSupported", "FunctionRejected", "KeySizeRange", "KeyTypeInconsistent", "KeyUnextractable"),
        *("MechanismInvalid", "MechanismParamInvalid", "PublicKeyInvalid", "SessionReadOnly", "TemplateIncomplete"),
        *("TemplateInconsistent", "TokenWriteProtected"),
    }
)


class _LostError(Exception):
    """The session, or the token behind it, is gone; `args[0]` names the library's error."""


class TokenRefusedError(RefusedError):
    """The token does not do this; the message has the library's name for it."""


@dataclass(frozen=True, slots=True)
class TokenPlace:
    """Which token: the path of its PKCS#11 module, and the label of the token."""

    module: Path
    token: str
    namespace: str = "specie"
    """What the labels of keys begin with: each bank has its own, so that two of them on one token share no key."""


class TokenKey(NamedTuple):
    """A key pair of the token: a handle, good for one session, and the public key (33 bytes)."""

    handle: Any
    public: bytes


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """What a token says of itself, and what was found by trying."""

    manufacturer: str
    model: str
    mechanisms: frozenset[str]
    secp256k1: bool
    """A session key on this curve was made and signed."""
    ecdh: bool
    """It derived x(k*P) without a key derivation function."""
    wrapping: bool
    """An AES-256 session key sealed and opened with GCM."""


class TokenSession:
    """One token, logged in; re-opened when it was lost. Every method runs on `thread`, inside `work` except `work` itself."""

    def __init__(
        self, place: TokenPlace, pin: Callable[[], str], thread: TokenThread, package: Callable[[], Any] | None = None
    ) -> None:
        """Nothing is opened yet. `pin` gives the PIN at each login; `package` finds python-pkcs11, by its name unless given."""
        self.place = place
        self._pin = pin
        self._package = package or (lambda: importlib.import_module("pkcs11"))
        self.thread = thread
        self._library: Any = None
        self._pkcs11: Any = None
        self._session: Any = None
        self._epoch = -1
        self._opened_at = 0.0
        self._not_before = 0.0
        self._backoff_s = _BACKOFF_S[0]
        self._stale = False
        self._pin_refused: str | None = None
        self._keys: dict[str, TokenKey] = {}
        self._publics: dict[str, bytes] = {}
        """Public keys by ref, from the first time that each was found: whatever token answers later must have the same."""
        self._prefix = place.namespace + "/"
        self._points_in_der = False

    def __repr__(self) -> str:
        return f"<TokenSession {self.place.token!r} {'closed' if self._session is None else 'open'}>"

    def work(self, task: Callable[[], T]) -> T:
        """Do `task` in an open session; where that turns out to be lost, once again in a new one. UnavailableError then."""
        lost = ""
        for _ in range(2):
            self._open()
            try:
                return task()
            except _LostError as error:
                lost = str(error)
                self._forget()
        self._wait()
        raise self._unavailable(lost) from None

    def close(self) -> None:
        """Close the session, if there is one. The next `work` would open one again."""
        session, self._session = self._session, None
        self._keys.clear()
        if session is not None and self._epoch == self.thread.epoch:
            with contextlib.suppress(_LostError, RefusedError):
                self._call(session.close)

    # -- keys

    def find(self, ref: str) -> TokenKey | None:
        """The key of a ref, proved to fit its public half; None if the token has none."""
        if (known := self._keys.get(ref)) is not None:
            return known
        p = self._pkcs11
        found = self._objects(p.ObjectClass.PRIVATE_KEY, ref)
        if not found:
            self._believe_a_miss()
            return None
        if len(found) > 1:
            raise KeyFaultError(f"the token has more than one key called {self._prefix}{ref}")
        (private,) = found
        if self._attribute(private, p.Attribute.EXTRACTABLE) or not self._attribute(private, p.Attribute.SENSITIVE):
            raise KeyFaultError(f"the key {self._prefix}{ref} could leave the token")
        candidates = self._signers(private)
        halves = {self._point(half) for half in self._objects(p.ObjectClass.PUBLIC_KEY, ref)}
        if not halves:  # of the keys that could have made the signature, it is the one with x(k*G)
            x = self.ecdh(private, _GENERATOR)
            halves = {point for point in candidates if curve.x_only(point) == x}
        if len(halves) != 1 or not halves <= candidates:
            raise KeyFaultError(f"the public half in the token is not that of the key {self._prefix}{ref}")
        key = TokenKey(private, halves.pop())
        if self._publics.setdefault(ref, key.public) != key.public:
            raise KeyFaultError(f"the token {self.place.token!r} has another key {self._prefix}{ref} than before")
        self._keys[ref] = key
        return key

    def found(self, ref: str) -> TokenKey:
        """The key of a ref. KeyUnknownError if the token has none: none is ever made by this."""
        key = self.find(ref)
        if key is None:
            raise KeyUnknownError(f"the token {self.place.token!r} has no key {ref}")
        return key

    def create(self, ref: str) -> TokenKey:
        """The key of a ref, generated in the token unless it is there. TokenFullError."""
        key = self.find(ref)
        if key is not None:
            return key
        for half in self._objects(self._pkcs11.ObjectClass.PUBLIC_KEY, ref):  # of a pair that was never whole
            self._call(half.destroy)
        self._publics.pop(ref, None)
        self._generate(self._prefix + ref, store=True)
        return self.found(ref)

    def find_wrapping_key(self, name: str) -> Any:
        """The AES key of a name, or None. KeyFaultError if there are two, or it could leave the token."""
        p = self._pkcs11
        found = self._objects(p.ObjectClass.SECRET_KEY, name)
        if not found:
            self._believe_a_miss()
            return None
        if len(found) > 1 or self._attribute(found[0], p.Attribute.EXTRACTABLE):
            raise KeyFaultError(f"the token has more than one key called {self._prefix}{name}, or one that could leave it")
        return found[0]

    def create_wrapping_key(self, name: str) -> None:
        """An AES-256 key of this name, unless it is there."""
        if self.find_wrapping_key(name) is None:
            self._aes(self._prefix + name, store=True)

    def destroy(self, ref: str) -> int:
        """Destroy all keys and halves of a ref in the token, for ever; how many objects there were."""
        p = self._pkcs11
        self._keys.pop(ref, None)
        self._publics.pop(ref, None)
        kinds = (p.ObjectClass.PRIVATE_KEY, p.ObjectClass.PUBLIC_KEY, p.ObjectClass.SECRET_KEY)
        found = [one for kind in kinds for one in self._objects(kind, ref)]
        for one in found:
            self._call(one.destroy)
        return len(found)

    @contextlib.contextmanager
    def session_key(self) -> Iterator[TokenKey]:
        """A key pair for a moment, in the session alone; destroyed afterwards."""
        public, private = self._generate(self._prefix + "trial", store=False)
        try:
            yield TokenKey(private, self._point(public))
        finally:
            self._call(private.destroy, always=True)
            self._call(public.destroy, always=True)

    # -- what a key computes

    def ecdh(self, handle: Any, point: bytes) -> bytes:
        """x(k*point), 32 bytes, of a point (33 bytes) that is on the curve. KeyFaultError for an answer that is no x."""
        p = self._pkcs11
        raw = curve.uncompress(point)
        given = b"\x04\x41" + raw if self._points_in_der else raw
        attribute = p.Attribute
        made = self._call(
            handle.derive_key,
            p.KeyType.GENERIC_SECRET,
            256,
            mechanism=p.Mechanism.ECDH1_DERIVE,
            mechanism_param=(p.KDF.NULL, None, given),
            template={
                attribute.CLASS: p.ObjectClass.SECRET_KEY,
                attribute.TOKEN: False,
                attribute.SENSITIVE: False,
                attribute.EXTRACTABLE: True,
            },
        )
        try:
            x = self._attribute(made, attribute.VALUE)
        finally:
            self._call(made.destroy, always=True)
        if not isinstance(x, bytes) or not 1 <= len(x) <= 32:
            raise KeyFaultError("the token answered a multiplication with something else than 32 bytes")
        return x.rjust(32, b"\0")

    def ecdsa(self, handle: Any, digest: bytes) -> bytes:
        """A compact low-S signature over 32 bytes. KeyFaultError for an answer that is none."""
        made = self._call(handle.sign, digest, mechanism=self._pkcs11.Mechanism.ECDSA)
        try:
            return curve.ecdsa_low_s(bytes(made))
        except MalformedError:
            raise KeyFaultError("the token answered with something that is no ECDSA signature") from None

    def encrypt(self, handle: Any, plaintext: bytes, nonce: bytes, associated: bytes) -> bytes:
        """AES-256-GCM with a tag of 16 bytes at the end; `nonce` is 12 FRESH random bytes."""
        p = self._pkcs11
        parameters = p.GCMParams(nonce, associated, 128)
        return bytes(self._call(handle.encrypt, plaintext, mechanism=p.Mechanism.AES_GCM, mechanism_param=parameters))

    def decrypt(self, handle: Any, name: str, sealed: bytes, nonce: bytes, associated: bytes) -> bytes | None:
        """Open it with the key called `name`; None if it was changed."""
        p = self._pkcs11
        parameters = p.GCMParams(nonce, associated, 128)
        try:
            return bytes(self._call(handle.decrypt, sealed, mechanism=p.Mechanism.AES_GCM, mechanism_param=parameters))
        except TokenRefusedError:
            return None
        except _LostError:  # SoftHSM calls a wrong tag a general error; is the key still there, it was that
            if not self._objects(p.ObjectClass.SECRET_KEY, name):
                raise
            return None

    def facts(self) -> TokenFacts:
        """Ask the token for its mechanisms and try out, with session keys, those that are used."""
        token = self._session.token
        mechanisms = self._call(token.slot.get_mechanisms)
        names = frozenset(getattr(one, "name", None) or f"{int(one):#x}" for one in mechanisms)
        curve_works = ecdh = wrapping = False
        if {"EC_KEY_PAIR_GEN", "ECDSA"} <= names:
            curve_works, ecdh = self._tried(
                lambda: self._curve_tried("ECDH1_DERIVE" in names), full=(True, "ECDH1_DERIVE" in names), nothing=(False, False)
            )
        if {"AES_KEY_GEN", "AES_GCM"} <= names:
            wrapping = self._tried(self._aes_tried, full=True, nothing=False)
        return TokenFacts(
            manufacturer=str(token.manufacturer_id),
            model=str(token.model),
            mechanisms=names,
            secp256k1=curve_works,
            ecdh=ecdh,
            wrapping=wrapping,
        )

    def _tried(self, trial: Callable[[], T], *, full: T, nothing: T) -> T:
        """What a trial found. `full` where there is no room for its key: every answer is proved anyway, so that is no risk."""
        try:
            return trial()
        except TokenFullError:
            return full
        except (TokenRefusedError, KeyFaultError):
            return nothing
        except _LostError:
            self._call(self._session.token.slot.get_mechanisms)  # raises if it is the token that is gone
            return nothing

    def _curve_tried(self, derives: bool) -> tuple[bool, bool]:
        """Whether a session key on secp256k1 signs, and gives x alone."""
        with self.session_key() as key:
            works = key.public in self._signers(key.handle)
            return works, works and derives and self._ecdh_tried(key.handle, key.public)

    def _aes_tried(self) -> bool:
        key = self._aes(self._prefix + "trial", store=False)
        try:
            text = bytes(range(48))
            return self.decrypt(key, "trial", self.encrypt(key, text, bytes(12), b"trial"), bytes(12), b"trial") == text
        finally:
            self._call(key.destroy, always=True)

    # -- the session

    def _open(self) -> None:
        if self._pin_refused is not None:
            raise TokenPinError(self._pin_refused)
        if self._session is not None and self._epoch == self.thread.epoch:
            return
        wait_s = self._not_before - time.monotonic()
        if wait_s > 0:
            raise UnavailableError(f"the token {self.place.token!r} was lost", retry_after_s=round(wait_s, 3))
        self._session = None
        self._keys.clear()
        try:
            self._login()
        except _LostError as error:
            self._stale = True
            self._wait()
            raise self._unavailable(str(error)) from None
        self._opened_at = time.monotonic()
        self._backoff_s = _BACKOFF_S[0]

    def _login(self) -> None:
        library = self._loaded()
        if self._stale:
            self._initialise_anew(library)
        try:
            token = self._call(library.get_token, token_label=self.place.token)
        except _LostError:  # the list of tokens is that of the moment the module was initialised
            self._initialise_anew(library)
            token = self._call(library.get_token, token_label=self.place.token)
        pin = self.thread.call(self._pin)
        tried = (str(self.place.module), self.place.token)
        digest = hmac.digest(_SALT, pin.encode("utf-8", "surrogateescape"), "sha256")
        if _refused_pins.get(tried) == digest:  # by an earlier session of this process: each try may be the last
            self._pin_refused = f"the token {self.place.token!r} has refused this PIN before; it is not tried again"
            raise TokenPinError(self._pin_refused)
        try:
            session = self._call(token.open, rw=True, user_pin=pin)
        except TokenPinError:
            _refused_pins[tried] = digest
            raise
        except _LoggedInError:  # by another signer of this process: a login is that of the process
            session = self._call(token.open, rw=True)
        self._session, self._epoch = session, self.thread.epoch

    def _loaded(self) -> Any:
        if self._library is None:
            try:
                self._pkcs11 = self._package()
            except ImportError:
                raise ProviderMissingError("keys in a token need the extra specie[hsm] (python-pkcs11)") from None
            try:
                self._library = self.thread.call(self._pkcs11.lib, str(self.place.module))
            except (RuntimeError, OSError) as error:
                name = type(error).__name__
                if type(error).__module__ == "pkcs11.exceptions" and name != "PKCS11Error":  # that one: it is no library
                    raise _LostError(name) from None
                raise ProviderMissingError(f"{self.place.module} cannot be loaded as a PKCS#11 module") from None
        return self._library

    def _initialise_anew(self, library: Any) -> None:
        self.thread.epoch += 1
        self._call(library.reinitialize)
        self._stale = False

    def _forget(self) -> None:
        self._session = None
        self._keys.clear()
        self._stale = True

    def _wait(self) -> None:
        self._not_before = time.monotonic() + self._backoff_s
        self._backoff_s = min(2 * self._backoff_s, _BACKOFF_S[1])

    def _unavailable(self, why: str) -> UnavailableError:
        wait_s = max(self._not_before - time.monotonic(), 0.1)
        return UnavailableError(f"the token {self.place.token!r} does not answer ({why})", retry_after_s=round(wait_s, 3))

    def _call(self, function: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """One call of the library. Its errors are sorted here; none of them carries what was given to it."""
        try:
            return self.thread.call(function, *arguments, **named)
        except RuntimeError as error:
            name = type(error).__name__
            if type(error).__module__ != "pkcs11.exceptions":
                raise
        if name in _PIN:
            self._pin_refused = f"the token {self.place.token!r} refuses the PIN ({name}); it is not tried again"
            raise TokenPinError(self._pin_refused)
        if name in _FULL:
            raise TokenFullError(f"the token {self.place.token!r} has no room for another key")
        if name in _REFUSED:
            raise TokenRefusedError(f"the token {self.place.token!r} does not do this ({name})")
        raise _LoggedInError(name) if name == "UserAlreadyLoggedIn" else _LostError(name)

    # -- objects

    def _objects(self, kind: Any, ref: str) -> list[Any]:
        attribute = self._pkcs11.Attribute
        asked = {attribute.CLASS: kind, attribute.LABEL: self._prefix + ref}
        return self._call(lambda: list(self._session.get_objects(asked)))

    def _attribute(self, handle: Any, attribute: Any) -> Any:
        return self._call(lambda: handle[attribute])

    def _believe_a_miss(self) -> None:
        """A blind session finds nothing and says nothing: is a key still found that was there before?"""
        known = next(iter(self._keys), None)
        if known is not None:
            if not self._objects(self._pkcs11.ObjectClass.PRIVATE_KEY, known):
                raise _LostError("SearchEmpty")
        elif time.monotonic() - self._opened_at > _FRESH_S:
            raise _LostError("SearchEmpty")

    def _point(self, half: Any) -> bytes:
        """The compressed point of a public key object: hostile, in DER or not."""
        data = self._attribute(half, self._pkcs11.Attribute.EC_POINT)
        if isinstance(data, bytes) and len(data) in (35, 67) and data[:2] == bytes((4, len(data) - 2)):
            data = data[2:]
        try:
            if not isinstance(data, bytes) or len(data) not in (33, 65):
                raise ValueError
            return curve.compress(curve.uncompress(data))
        except ValueError:
            raise KeyFaultError("the token gave a public key that is no point of secp256k1") from None

    def _signers(self, private: Any) -> set[bytes]:
        """The public keys that could have made a signature of this key: its own is one of them."""
        signature = self.ecdsa(private, _DIGEST)
        points = set()
        for recovery_id in range(4):
            with contextlib.suppress(MalformedError):
                points.add(curve.ecdsa_recover(_DIGEST, signature, recovery_id))
        return points

    def _ecdh_tried(self, private: Any, point: bytes) -> bool:
        """Whether ECDH answers x alone; finds out in which form it takes points."""
        for self._points_in_der in (False, True):
            with contextlib.suppress(_LostError, RefusedError, KeyFaultError):
                if self.ecdh(private, _GENERATOR) == curve.x_only(point):
                    return True
        return False

    def _generate(self, label: str, *, store: bool) -> tuple[Any, Any]:
        p = self._pkcs11
        attribute, flag = p.Attribute, p.MechanismFlag
        parameters = self._session.create_domain_parameters(p.KeyType.EC, {attribute.EC_PARAMS: _CURVE}, local=True)
        made: tuple[Any, Any] = self._call(
            parameters.generate_keypair,
            label=label,
            id=hashlib.sha256(label.encode()).digest()[:20],
            store=store,
            capabilities=flag.SIGN | flag.VERIFY | flag.DERIVE,
            private_template={attribute.PRIVATE: True, attribute.SENSITIVE: True, attribute.EXTRACTABLE: False},
        )
        return made

    def _aes(self, label: str, *, store: bool) -> Any:
        p = self._pkcs11
        attribute, flag = p.Attribute, p.MechanismFlag
        return self._call(
            self._session.generate_key,
            p.KeyType.AES,
            256,
            label=label,
            id=hashlib.sha256(label.encode()).digest()[:20],
            store=store,
            capabilities=flag.ENCRYPT | flag.DECRYPT,
            template={attribute.PRIVATE: True, attribute.SENSITIVE: True, attribute.EXTRACTABLE: False},
        )


class _LoggedInError(Exception):
    """Another signer of this process is logged in already."""
