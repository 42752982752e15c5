"""The pages in a real browser: live without reload, steered with and without scripts."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest

from clarion.testing import Fault, SendGridLookalike

OPEN = "takes messages|ramping up"
WITH_AND_WITHOUT = pytest.mark.parametrize("scripts", [True, False])


async def lane(served):
    return (await served.get("/v1/queues")).json["items"][0]


async def circuit(served):
    found = (await served.get("/v1/providers")).json["items"]
    return next(each["circuit"] for each in found if each["name"] == "outbox")


async def is_live(page):
    """Wait until the page follows what it shows."""
    await page.wait_for_selector("#live.ok")


async def test_a_page_follows_the_engine_without_being_loaded_again(served, browse):
    """Counts, the latest notifications, the headline and the title move by themselves."""
    async with browse() as (page, complaints):
        await page.goto(served.url)
        await is_live(page)
        await page.evaluate("document.body.dataset.same = 'yes'")
        sent = await served.send()
        await page.wait_for_selector(f'a[href="/notifications/{sent["id"]}"]')
        await page.wait_for_selector(".tile.ok:has-text('sent'):has-text('1')")
        await served.post("/v1/queues/email/pause")
        await page.wait_for_function(
            "() => document.title.startsWith('Delivering, with 1 warning')"
        )
        told = await page.inner_text("#told")

        assert await page.evaluate("document.body.dataset.same") == "yes"
        assert "Delivering, with 1 warning" in told
    assert complaints == []


async def test_what_is_open_stays_open_while_its_part_changes(served, browse):
    """The menu that a person reads does not close, and the focus stays on its control."""
    async with browse() as (page, complaints):
        await page.goto(served.url)
        await is_live(page)
        await page.click("#provider-1 summary")
        before = await page.inner_text("[data-part=providers]")
        await served.post("/v1/breakers/outbox/open")
        await page.wait_for_function(
            "before => document.querySelector('[data-part=providers]').innerText !== before",
            arg=before,
        )

        assert await page.get_attribute("#provider-1", "open") is not None
        focused = await page.evaluate("document.activeElement.closest('details')?.id")
        assert focused == "provider-1"
    assert complaints == []


@WITH_AND_WITHOUT
async def test_a_lane_is_paused_and_resumed_by_its_buttons(served, browse, scripts):
    """The menu opens before anything is done; the page that comes shows what came of it."""
    async with browse(scripts=scripts) as (page, complaints):
        await page.goto(served.url)
        await page.click("#lane-1 summary")
        assert not (await lane(served))["paused"]
        await page.click("#lane-1 button")
        await page.wait_for_selector("[data-part=lanes] .mark:has-text('paused')")
        assert (await lane(served))["paused"]
        assert urlsplit(page.url).fragment == "lanes"

        await page.click("[data-part=outlook] button:has-text('Resume')")
        await page.wait_for_selector("h1:has-text('All is well')")
        assert not (await lane(served))["paused"]
    assert complaints == []


@WITH_AND_WITHOUT
async def test_a_provider_and_its_circuit_are_steered_by_their_buttons(served, browse, scripts):
    """Open, close, reset, disable, enable: each is shown once it is done."""
    steps = [
        ("Force open", "forced open"), ("Hold closed", "held closed"), ("Reset", OPEN),
        ("Disable", "disabled"), ("Enable", OPEN),
    ]  # fmt: skip
    async with browse(scripts=scripts) as (page, complaints):
        await page.goto(served.url)
        for button, shown in steps:
            await page.click("#provider-1 summary")
            await page.click(f"#provider-1 button:has-text('{button}')")
            await page.wait_for_selector(f"[data-part=providers] >> text=/{shown}/")
            if button == "Force open":
                assert await circuit(served) == "forced_open"
        assert await circuit(served) == "closed"
    assert complaints == []


@WITH_AND_WITHOUT
async def test_dead_letters_are_redriven_from_the_page(serve, browse, scripts):
    """Look, filter, be told how many, redrive at a rate, and see how far it got."""
    async with SendGridLookalike() as provider, browse(scripts=scripts) as (page, complaints):
        provider.behave(Fault.error(400))
        served = await serve(
            providers={"alpha": provider.settings()}, channels={"email": {"providers": ["alpha"]}}
        )
        for _ in range(3):
            await served.send()
        await served.until(lambda: _by_status(served, "failed", 3))
        provider.recover()

        await page.goto(served.url)
        await page.click("nav >> text=Dead letters")
        await page.select_option("select[name=reason]", "permanent")
        await page.click("button:has-text('Show')")
        await page.click("text=Redrive these…")
        assert await page.inner_text("h1") == "Redrive 3 dead letters?"
        await page.fill("input[name=rate]", "500")
        await page.click("button:has-text('Redrive 3')")
        await page.wait_for_selector("#redrives")
        await served.until(lambda: _by_status(served, "sent", 3))
        if not scripts:
            await page.reload()
        await page.wait_for_selector("text=3 of 3 moved")
        await page.wait_for_selector("text=There is none.")
    assert complaints == []


async def _by_status(served, status, n):
    return (await served.get("/v1/stats")).json["by_status"].get(status) == n


async def test_a_story_grows_while_it_is_read(serve, browse):
    """From the call that hangs to the fallback's answer."""
    async with SendGridLookalike() as slow, browse() as (page, complaints):
        slow.behave(Fault.slow(2.0))
        served = await serve(
            providers={"alpha": slow.settings()}, channels={"email": {"providers": ["alpha"]}}
        )
        sent = await served.send()
        await page.goto(f"{served.url}/notifications/{sent['id']}")
        await page.wait_for_selector("text=It is being handed to alpha")
        await page.wait_for_selector(".story .mark:has-text('sent')")
        await page.wait_for_selector("text=A call to alpha")
    assert complaints == []


async def test_a_server_that_goes_away_is_told_and_found_again(serve_front, served, browse):
    """What stands there is of the past, and says so; no reload is needed once it is back."""
    other = await serve_front(served.front)
    port = urlsplit(other.url).port
    async with browse() as (page, _):
        await page.goto(other.url)
        await is_live(page)
        await other.stop()
        await page.wait_for_selector("#live.warn:has-text('not live')")
        await serve_front(served.front, port=port)
        await is_live(page)


async def test_a_page_that_nobody_looks_at_is_not_followed(served, browse):
    """A forgotten tab costs nothing."""
    from clarion.http.dashboard.live import LIVE

    async with browse() as (page, _):
        await page.goto(served.url)
        await is_live(page)
        await page.evaluate(
            "Object.defineProperty(document, 'hidden', {value: true});"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )
        async with asyncio.timeout(10):
            while served.app[LIVE]._n:
                await asyncio.sleep(0.05)


async def test_hostile_words_stay_text_when_they_come_as_an_event(served, browse):
    """What customers write is put into the page as the server escaped it."""
    async with browse() as (page, complaints):
        await page.goto(served.url)
        await is_live(page)
        await served.send(tenant="<img src=x onerror=alert(1)>")
        await page.wait_for_selector("text=<img src=x onerror=alert(1)>")

        assert await page.query_selector("main img") is None
    assert complaints == []
