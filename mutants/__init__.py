"""Deliberately broken variants of Clarion, each of which has to be caught: does the testing bite?

See docs/reliability.md. `table/*.toml` is the data: one source text and its replacement for each.
"""
