"""Wallets under measurement, each a program in its own interpreter that takes the calls of `bench.wallet`."""
