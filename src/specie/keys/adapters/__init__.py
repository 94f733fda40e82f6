"""Providers of keys and stores of sealed seeds; imported by `app` only."""
