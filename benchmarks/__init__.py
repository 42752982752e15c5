"""How fast Clarion is beside the least that could do the same; `python -m benchmarks`."""
