"""A weighted route: work is shared by weight, and goes to who is left where others fail."""

from __future__ import annotations

N = 400


async def test_work_is_shared_by_weight_and_taken_over_from_the_dead(house):
    """70 to 30 while both answer; a standby takes none; all of it goes on when one fails."""
    most, some, standby = [await house.sendgrid() for _ in range(3)]
    house.configure(
        {
            name: provider.settings(bulkhead={"max_concurrent": 64})
            for name, provider in (("most", most), ("some", some), ("standby", standby))
        },
        {
            "email": {
                "providers": ["most", "some", "standby"],
                "strategy": "weighted",
                "weights": {"most": 70, "some": 30, "standby": 0},
            }
        },
    )
    clarion = await house.start()
    for start in range(0, N, 50):  # No more than there are slots, so that only the draw decides.
        await house.send_all(clarion.client, [house.email(n) for n in range(start, start + 50)])
        await clarion.client.wait_drained()

    # Six standard deviations of 400 draws: it fails once in a billion runs.
    assert abs(most.deliveries.total() - 0.7 * N) < 55
    assert most.deliveries.total() + some.deliveries.total() == N
    assert not standby.deliveries

    most.behave(most.failure)
    some.behave(some.failure)
    ids = await house.send_all(clarion.client, [house.email(n) for n in range(100)])
    await clarion.client.wait_drained()
    assert standby.deliveries == dict.fromkeys(ids, 1)
