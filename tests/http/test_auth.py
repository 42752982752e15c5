"""Who may ask: with a key, and without one on a machine that has a browser."""

from __future__ import annotations

import base64
import re

import pytest

from clarion.http.app import make_app
from clarion.http.auth import OPEN, OWN_CREDENTIALS, is_own_host

KEY = "correct-horse-battery-staple"


def filled(path):
    """Return an address of a route."""
    return re.sub(r"\{[^}]+\}", "any", path)


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def routes(front):
    """Return (method, path) of every route of the app, whoever added it."""
    found = set()
    for route in make_app(front).router.routes():
        info = route.resource.get_info()
        path = info.get("path") or info.get("formatter") or info.get("prefix")
        assert path, info
        found.add((route.method, filled(path)))
    return sorted(found)


async def test_with_a_key_every_route_but_two_needs_it(serve):
    """The guard over all routes, a page's included: 401 without the key and with another."""
    served = await serve(server={"api_key": KEY})
    listed = routes(served.front)
    own = {filled(path) for path in OWN_CREDENTIALS}
    assert own <= {path for _, path in listed}
    assert ("POST", "/v1/notifications") in listed
    assert ("GET", "/metrics") in listed

    for method, path in listed:
        for header in ({}, {"Authorization": "Bearer wrong"}):
            answer = await served.ask(method, path, headers=header)
            if path in OPEN:
                assert answer.status == 200, (method, path)
            elif path in own:
                assert answer.status == 403, (method, path)
            else:
                assert answer.status == 401, (method, path)
                assert "Bearer" in answer.headers["WWW-Authenticate"]
                assert method == "HEAD" or answer.is_problem
    assert {"/livez", "/readyz"} == OPEN


HOOK = {"notification": {"channel": "email", "to": "ada@example.com", "text": "{{ payload.x }}"}}


async def test_a_hook_needs_its_own_credential_and_no_other(serve):
    """Neither the server's key nor that of another hook; and a hook's opens nothing else."""
    served = await serve(
        server={"api_key": KEY},
        hooks={
            "one": {"token": "token-of-hook-one", **HOOK},
            "two": {"token": "token-of-hook-two", **HOOK},
            "signed": {"secret": "secret-of-a-hook", "signature": "github", **HOOK},
        },
    )
    for name, right in (("one", "token-of-hook-one"), ("two", "token-of-hook-two"), ("signed", "")):
        for key in ("", KEY, "token-of-hook-one", "token-of-hook-two", "secret-of-a-hook"):
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            answer = await served.ask("POST", f"/hooks/{name}", {"x": "y"}, headers=headers)
            assert answer.status == (202 if key and key == right else 403), (name, key)
            other = await served.ask("GET", "/v1/stats", headers=headers)
            assert other.status == (200 if key == KEY else 401)

    for path in ("/hooks/one/../../v1/stats", "/hooks/one/", "/hooks/", "/hooks", "/hooks/a/b"):
        assert (await served.ask("POST", path, {})).status == 401, path
    for method in ("GET", "PUT", "OPTIONS"):
        assert (await served.ask(method, "/hooks/one")).status == 401


async def test_with_a_key_what_is_not_there_is_not_told_either(serve):
    """Unknown paths and methods answer 401 as well: nobody maps the house from outside."""
    served = await serve(server={"api_key": KEY})

    assert (await served.get("/nothing")).status == 401
    assert (await served.ask("DELETE", "/v1/stats")).status == 401
    assert (await served.ask("OPTIONS", "/v1/stats")).status == 401


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (f"Bearer {KEY}", 200),
        (f"bearer {KEY}", 200),
        (f"BEARER  {KEY} ", 200),
        (KEY, 401),
        (f"Basic {KEY}", 401),
        (basic("operator", KEY), 200),
        (basic("", KEY), 200),
        (basic(KEY, ""), 401),
        (basic("operator", KEY + "x"), 401),
        ("Basic %%%", 401),
        ("Basic " + base64.b64encode(b"\xff:\xff").decode(), 401),
        (f"Bearer {KEY}x", 401),
        (f"Bearer {KEY[:-1]}", 401),
        ("Bearer ", 401),
        ("Bearer", 401),
        (f"Bearer {KEY.upper()}", 401),
        ("Bearer caf\u00e9", 401),
    ],
)
async def test_the_key_is_compared_whole(serve, header, status):
    """Whatever stands there is no 500."""
    served = await serve(server={"api_key": KEY})

    assert (await served.get("/v1/stats", Authorization=header)).status == status


async def test_a_browser_is_asked_for_the_key_as_a_password(serve):
    """It can show no bearer key; a program is asked for that."""
    served = await serve(server={"api_key": KEY})

    page = await served.get("/", Accept="text/html,*/*")
    program = await served.get("/", Accept="*/*")

    assert page.headers["WWW-Authenticate"].startswith("Basic ")
    assert program.headers["WWW-Authenticate"].startswith("Bearer ")
    assert (await served.get("/", Authorization=basic("", KEY))).status == 200


async def test_a_password_that_the_browser_adds_for_a_foreign_page_changes_nothing(serve, mail):
    """A browser sends Basic credentials with every request to us, whoever made it ask."""
    served = await serve(server={"api_key": KEY})
    logged_in = {"Authorization": basic("", KEY), "Host": "notify.example.com"}

    foreign = await served.ask(
        "POST", "/v1/notifications", mail, headers={**logged_in, "Origin": "https://evil.example"}
    )
    own = await served.ask(
        "POST", "/v1/notifications", mail,
        headers={**logged_in, "Origin": "https://notify.example.com"},
    )  # fmt: skip

    assert (foreign.status, own.status) == (403, 202)


async def test_with_a_key_hosts_and_origins_do_not_matter(serve, mail):
    """The key decides: behind a proxy the host is whatever the proxy says."""
    served = await serve(server={"api_key": KEY})
    answer = await served.ask(
        "POST", "/v1/notifications", mail,
        headers={"Authorization": f"Bearer {KEY}", "Host": "notify.example.com",
                 "Origin": "https://app.example.com"},
    )  # fmt: skip

    assert answer.status == 202


# --- without a key ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("127.0.0.1", True),
        ("127.0.0.1:8080", True),
        ("127.1.2.3:8080", True),
        ("localhost", True),
        ("LOCALHOST:8080", True),
        ("localhost.", True),
        ("clarion.localhost:80", True),
        ("[::1]:8080", True),
        ("notify.example.com", True),
        ("notify.example.com:443", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("evil-localhost", False),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
        ("[::]", False),
        ("", False),
        ("[", False),
        ("user@evil.example", False),
        ("localhost@evil.example", False),
        ("2130706433", False),
    ],
)
def test_a_host_is_ours_only_if_it_names_loopback_or_our_public_url(host, is_own):
    """What a rebound name would say is not ours, however it is dressed up."""
    assert is_own_host(host, frozenset({"notify.example.com"})) is is_own


async def test_a_rebound_name_reads_and_changes_nothing(served, mail):
    """Every route answers 403 to the host of another site; probes aside, which tell nothing."""
    for method, path in routes(served.front):
        answer = await served.ask(method, path, headers={"Host": "evil.example:8080"})
        assert answer.status == (200 if path in OPEN else 403), (method, path)


async def test_the_host_of_the_public_url_is_answered(serve):
    """A proxy on the same machine may pass its own name on."""
    served = await serve(server={"public_url": "https://notify.example.com/x"})

    assert (await served.get("/v1/stats", Host="notify.example.com")).status == 200
    assert (await served.get("/v1/stats", Host="other.example.com")).status == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "http://127.0.0.1.evil.example"},
        {"Origin": "http://[bad"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://127.0.0.1:{port}", "Sec-Fetch-Site": "cross-site"},
    ],
)
async def test_a_page_of_another_site_cannot_change_anything(served, mail, headers):
    """Neither send, nor pause, nor open a circuit, through the browser of whoever visits it."""
    port = served.url.rpartition(":")[2]
    given = {name: value.replace("{port}", port) for name, value in headers.items()}
    for path, body in (
        ("/v1/notifications", mail),
        ("/v1/queues/email/pause", None),
        ("/v1/breakers/outbox/open", None),
        ("/v1/providers/outbox/disable", None),
    ):
        answer = await served.ask("POST", path, body, headers=given)
        assert answer.status == 403, path
        assert answer.is_problem
    assert (await served.get("/v1/stats")).json["accepted"] == 0
    assert not (await served.get("/v1/queues")).json["items"][0]["paused"]


async def test_our_own_pages_and_programs_may(served, mail):
    """The same origin, a typed address, and what is no browser."""
    port = served.url.rpartition(":")[2]
    own = {"Origin": f"http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"}

    assert (await served.ask("POST", "/v1/notifications", mail, headers=own)).status == 202
    typed = {"Sec-Fetch-Site": "none"}
    assert (await served.ask("POST", "/v1/notifications", mail, headers=typed)).status == 202
    assert (await served.post("/v1/notifications", mail)).status == 202


async def test_no_answer_may_be_shared_with_another_origin(served):
    """No CORS header, ever, and none to be guessed, embedded or kept."""
    for path in ("/v1/stats", "/health", "/docs", "/nothing"):
        answer = await served.get(path, Origin="https://evil.example")
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["Cache-Control"] == "no-store"


async def test_a_probe_of_the_old_kind_needs_no_host(served):
    """HTTP/1.0, as some balancers speak it."""
    assert (await served.raw(b"GET /health HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.0 200")
