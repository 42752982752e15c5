"""Pure decisions: breaker, retry, gate, routing, verdict, rate limit, fairness, restart budgets.

Standard library only; clock, randomness and ids are arguments.
"""
