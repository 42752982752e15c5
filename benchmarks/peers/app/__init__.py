"""The peers' applications, one module each; they run in an environment of the peer's own."""
