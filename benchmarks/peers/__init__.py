"""Clarion beside what people would pick instead: the same work, in turns; `--help` tells more."""
