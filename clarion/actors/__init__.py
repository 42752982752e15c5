"""The actors: one concept a file; `runtime` is the engine below them all."""
