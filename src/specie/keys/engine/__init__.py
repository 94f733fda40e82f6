"""Signers made of signers: what stays true when one of them is away or lies."""
