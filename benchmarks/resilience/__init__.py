"""Resilience as speed: how fast Clarion leaves a sick provider, what that costs, how it returns."""
