"""Plain data of the domain: notifications, outcomes, addresses. No I/O, no clock, no randomness."""
