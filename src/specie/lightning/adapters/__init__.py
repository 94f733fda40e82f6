"""Plugs of this room; `app` alone imports them."""
