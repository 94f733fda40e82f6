"""Paid HTTP (NUT-24), both sides: `Paywall` in front of any ASGI application, `Proxy` behind it, `CashuAuth` for clients."""

from specie.paywall.auth import CashuAuth
from specie.paywall.middleware import Paywall
from specie.paywall.price import Price, price_from_text
from specie.paywall.proxy import Proxy

__all__ = ["CashuAuth", "Paywall", "Price", "Proxy", "price_from_text"]
