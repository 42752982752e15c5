"""Inbound hooks: who may call one, and what becomes of its payload; no I/O lives here."""
