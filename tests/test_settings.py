"""The settings: defaults, the environment, and everything that is wrong at once."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarion.errors import SettingsError
from clarion.providers.registry import KINDS
from clarion.settings import Settings, load
from clarion.testing.settings_file import toml_of

SENDGRID = {"kind": "sendgrid", "api_key": "SG.secret", "from_address": "news@example.com"}
TWILIO = {
    "kind": "twilio", "account_sid": "AC" + "0" * 32, "auth_token": "token-secret",
    "from_number": "+15005550006",
}  # fmt: skip


def loaded(
    directory: Path, document: dict[str, Any] | str = "", env: dict[str, str] | None = None
) -> Settings:
    """Load a document from a file of its own."""
    file = directory / "settings.toml"
    file.write_text(document if isinstance(document, str) else toml_of(document))
    return load(file, env=env or {})


def faults(
    directory: Path, document: dict[str, Any] | str, env: dict[str, str] | None = None
) -> dict[str, str]:
    """Return what is wrong with a document, by key."""
    with pytest.raises(SettingsError) as raised:
        loaded(directory, document, env)
    return {fault.pointer: fault.detail for fault in raised.value.faults}


# --- defaults ----------------------------------------------------------------------------------


def test_with_nothing_configured_everything_has_a_default(tmp_path):
    """The figures of the public contract."""
    settings = loaded(tmp_path)

    assert settings.server.model_dump(exclude={"api_key"}) == {
        "host": "127.0.0.1", "port": 8080, "public_url": "", "drain": 25.0, "max_body": 1_000_000,
    }  # fmt: skip
    assert settings.server.api_key.get_secret_value() == ""
    assert settings.storage.model_dump() == {
        "url": "sqlite:///clarion.db", "pool_min": 2, "pool_max": 10, "node": "",
    }  # fmt: skip
    assert settings.redis.model_dump() == {
        "url": "", "prefix": "clarion", "pool_min": 1, "pool_max": 20,
    }  # fmt: skip
    assert settings.queue.model_dump() == {
        "max_in_memory": 2000, "max_pending": 10_000_000, "lease": 30.0,
    }  # fmt: skip
    assert settings.defaults.model_dump() == {
        "delivery": "at_least_once", "unknown_grace": 30.0, "expires_after": 259_200.0,
        "retention_days": 30.0,
    }  # fmt: skip


def test_e_mail_and_text_messages_go_to_the_outbox_unless_a_channel_is_named(tmp_path):
    """Both can be tried without an account; nothing meant for the world ends there unasked."""
    assert {name: each.providers for name, each in loaded(tmp_path).channels.items()} == {
        "email": ["outbox"], "sms": ["outbox"],
    }  # fmt: skip

    named = loaded(tmp_path, {"channels": {"webhook": {"spill_after": 2.0}}})

    assert {name: each.providers for name, each in named.channels.items()} == {
        "webhook": ["outbox"]
    }


def test_a_channel_has_the_defaults_of_the_contract(tmp_path):
    """Route and retries."""
    channel = loaded(tmp_path).channels["email"]

    assert (channel.strategy, channel.weights, channel.spill_after) == ("ordered", {}, 1.0)
    assert channel.retry_table.model_dump() == {
        "max_attempts": 5, "initial_delay": 1.0, "multiplier": 2.0, "max_delay": 3600.0,
        "jitter": True, "retry_after_max": 3600.0,
    }  # fmt: skip
    assert channel.retry.max_attempts == 5


def test_a_provider_has_the_defaults_of_the_contract(tmp_path):
    """Times, bulkhead, breaker and rate limit."""
    provider = loaded(tmp_path).providers["outbox"]

    assert (provider.timeout, provider.enabled) == (10.0, True)
    assert (provider.health_every, provider.misconfigured_probe) == (30.0, 300.0)
    assert provider.max_concurrent == 32
    assert provider.breaker_table.model_dump() == {
        "failure_threshold": 5, "success_threshold": 2, "timeout": 60.0, "half_open_timeout": 30.0,
        "timeout_multiplier": 2.0, "timeout_max": 600.0, "jitter": 0.1, "window": "consecutive",
        "size": 100, "minimum_calls": 10, "failure_rate": 0.5, "slow_call": 0.0, "slow_rate": 1.0,
    }  # fmt: skip
    assert provider.rate_limit.model_dump() == {"per_second": 0.0, "burst": 1}


@pytest.mark.parametrize(
    ("bulkhead", "slots"),
    [({}, 4), ({"bulkhead": {}}, 4), ({"bulkhead": {"max_concurrent": 9}}, 9)],
)
def test_a_kind_may_have_fewer_slots_than_the_others(tmp_path, bulkhead, slots):
    """A slot of kind smtp is a connection, and mail servers allow few of them."""
    smtp = {"host": "mail.example.com", "from_address": "news@example.com", **bulkhead}

    settings = loaded(tmp_path, {"providers": {"smtp": smtp}})

    assert settings.providers["smtp"].max_concurrent == slots
    assert settings.providers["outbox"].max_concurrent == 32


def test_a_bulkhead_that_is_no_table_is_a_fault_of_its_key(tmp_path):
    """A default of the kind does not hide it."""
    smtp = {"host": "mail.example.com", "from_address": "news@example.com", "bulkhead": 4}

    assert set(faults(tmp_path, {"providers": {"smtp": smtp}})) == {"providers.smtp.bulkhead"}


def test_without_a_file_the_defaults_hold(tmp_path, monkeypatch):
    """`clarion serve` in an empty directory works, and keeps its files there."""
    monkeypatch.chdir(tmp_path)

    assert load(env={}).base_dir == tmp_path


def test_a_file_that_was_named_has_to_be_there(tmp_path):
    """A misspelt --settings must not start another configuration than the one that was meant."""
    with pytest.raises(SettingsError, match="there is no such file") as raised:
        load(tmp_path / "mine.toml", env={})

    assert raised.value.faults[0].pointer.endswith("mine.toml")


def test_the_kind_of_a_provider_is_its_name_unless_it_says_so(tmp_path):
    """`[providers.outbox]` needs no second word for itself."""
    settings = loaded(tmp_path, {"providers": {"outbox": {"directory": "mail"}}})

    assert settings.providers["outbox"].kind == "outbox"
    assert settings.providers["outbox"].config.directory == Path("mail")


# --- the environment ---------------------------------------------------------------------------


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(tmp_path):
    """One file for all machines, its differences in the environment."""
    file = tmp_path / "settings.toml"
    file.write_text("[server]\nport = 1000\n")
    env = {"CLARION_SERVER__PORT": "9000"}

    assert load(file, env={}).server.port == 1000
    assert load(file, env=env).server.port == 9000
    assert load(file, env=env, overrides={"server": {"port": 9001}}).server.port == 9001


def test_text_of_the_environment_becomes_what_its_key_needs(tmp_path):
    """Numbers, booleans, sizes, lists and tables; text stays text, even where it is digits."""
    env = {
        "CLARION_SERVER__DRAIN": "30",
        "CLARION_SERVER__MAX_BODY": "2 MB",
        "CLARION_CHANNELS__EMAIL__PROVIDERS": '["mail", "outbox"]',
        "CLARION_CHANNELS__EMAIL__WEIGHTS": "{mail = 70, outbox = 30}",
        "CLARION_CHANNELS__EMAIL__RETRY__JITTER": "false",
        "CLARION_PROVIDERS__MAIL__KIND": "sendgrid",
        "CLARION_PROVIDERS__MAIL__API_KEY": "12345",
        "CLARION_PROVIDERS__MAIL__FROM_ADDRESS": "news@example.com",
        "CLARION_PROVIDERS__MAIL__FROM_NAME": "[News] {today}",
        "CLARION_PROVIDERS__MAIL__BREAKER__FAILURE_RATE": "0.25",
    }

    settings = loaded(tmp_path, env=env)

    assert (settings.server.drain, settings.server.max_body) == (30.0, 2_000_000)
    channel, mail = settings.channels["email"], settings.providers["mail"]
    assert channel.providers == ["mail", "outbox"]
    assert channel.weights == {"mail": 70, "outbox": 30}
    assert channel.retry_table.jitter is False
    assert mail.config.api_key.get_secret_value() == "12345"
    assert mail.config.from_name == "[News] {today}"
    assert mail.breaker_table.failure_rate == 0.25


def test_a_malformed_variable_is_a_fault_of_its_key(tmp_path):
    """Not a crash, and not the default."""
    env = {
        "CLARION_SERVER__PORT": "eighty",
        "CLARION_CHANNELS__EMAIL__PROVIDERS": "outbox",
        "CLARION_SERVER__HOST__NAME": "x",
        "CLARION_QUEUE": "ignored: it names no key",
        "CLARION_DEFAULTS__": "x",
    }

    found = faults(tmp_path, '[server]\nhost = "127.0.0.1"\n', env)

    assert set(found) == {
        "server.port", "channels.email.providers", "CLARION_SERVER__HOST__NAME", "defaults.",
    }  # fmt: skip


# --- faults ------------------------------------------------------------------------------------


def test_every_fault_is_told_at_once(tmp_path):
    """Nobody mends a file fault by fault: own faults and cross-checks come in one answer."""
    document = """
        prots = 3
        [server]
        prot = 8080
        drain = 5
        [storage]
        pool_min = 20
        [channels.emial]
        [channels.email]
        providers = ["sengrid", "outbox"]
        strategy = "ordered"
        [channels.sms]
        strategy = "wighted"
        [providers.sendgrid]
        timeout = -1
        retries = 3
        [providers.slow]
        kind = "outbox"
        timeout = 40
    """

    found = faults(tmp_path, document)

    assert set(found) == {
        "prots", "server.prot", "storage.pool_min", "channels.emial", "channels.email.providers",
        "channels.sms.strategy", "providers.sendgrid.timeout", "providers.sendgrid.retries",
        "providers.sendgrid.api_key", "providers.sendgrid.from_address",
        "providers.slow.breaker.half_open_timeout",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("document", "key", "words"),
    [
        ({"sever": {"port": 1}}, "sever", "did you mean 'server'?"),
        ({"server": {"prot": 1}}, "server.prot", "did you mean 'port'?"),
        ({"channels": {"mail": {"spill_after": 1}}}, "channels.mail", "did you mean 'email'?"),
        ({"channels": {"email": {"retry": {"max_atempts": 1}}}},
         "channels.email.retry.max_atempts", "did you mean 'max_attempts'?"),
        ({"providers": {"outbox": {"tiemout": 1}}},
         "providers.outbox.tiemout", "did you mean 'timeout'?"),
        ({"providers": {"outbox": {"directry": "x"}}},
         "providers.outbox.directry", "did you mean 'directory'?"),
        ({"providers": {"outbox": {"breaker": {"windw": "x"}}}},
         "providers.outbox.breaker.windw", "did you mean 'window'?"),
        ({"providers": {"mail": {"kind": "sendgird"}}},
         "providers.mail.kind", "did you mean 'sendgrid'?"),
        ({"channels": {"email": {"providers": ["outbax"]}}},
         "channels.email.providers", "did you mean 'outbox'?"),
    ],
)  # fmt: skip
def test_a_misspelt_name_is_answered_with_what_was_meant(tmp_path, document, key, words):
    """Sections, keys of every depth, kinds, channels and routes."""
    found = faults(tmp_path, document)

    assert words in found[key]


@pytest.mark.parametrize(
    ("document", "key"),
    [
        ({"server": {"port": 70_000}}, "server.port"),
        ({"server": {"drain": True}}, "server.drain"),
        ({"server": {"max_body": "1 furlong"}}, "server.max_body"),
        ({"server": {"max_body": "1e999 MB"}}, "server.max_body"),
        ({"server": {"public_url": "notify.example.com"}}, "server.public_url"),
        ({"server": {"api_key": "a\r\nb"}}, "server.api_key"),
        ({"queue": {"max_in_memory": 0}}, "queue.max_in_memory"),
        ({"defaults": {"delivery": "exactly_once"}}, "defaults.delivery"),
        ({"defaults": {"expires_after": 1e300}}, "defaults.expires_after"),
        ({"channels": {"email": {"providers": []}}}, "channels.email.providers"),
        ({"channels": {"email": {"retry": {"max_attempts": True}}}},
         "channels.email.retry.max_attempts"),
        ({"providers": {"outbox": {"bulkhead": {"max_concurrent": 0}}}},
         "providers.outbox.bulkhead.max_concurrent"),
        ({"providers": {"outbox": {"breaker": {"jitter": 2}}}}, "providers.outbox.breaker.jitter"),
        ({"providers": {"outbox": {"kind": 3}}}, "providers.outbox.kind"),
        ({"providers": {"a/b": {"kind": "outbox"}}}, "providers.a/b"),
        ("providers = 3", "providers"),
        ("channels = [1]", "channels"),
        ("server = 3", "server"),
        ("[providers]\nmail = 3", "providers.mail"),
        ("[channels]\nemail = 3", "channels.email"),
        ("[server]\ndrain = nan", "server.drain"),
        ("[server]\ndrain = inf", "server.drain"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_a_fault_of_its_key(tmp_path, document, key):
    """Bounds, types and shapes."""
    assert set(faults(tmp_path, document)) == {key}


def test_an_override_of_a_broken_section_leaves_the_fault_standing(tmp_path):
    """`--port` over `server = 3` is a fault of the file, not a crash."""
    file = tmp_path / "settings.toml"
    file.write_text("server = 3\n")

    with pytest.raises(SettingsError) as raised:
        load(file, env={}, overrides={"server": {"port": 1}})

    assert [fault.pointer for fault in raised.value.faults] == ["server"]


# --- cross-checks ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.5", "", "notify.example.com", "localhost.example.com"]
)
def test_without_a_key_only_this_machine_may_reach_the_server(tmp_path, host):
    """An open relay is one setting away otherwise."""
    assert "server.api_key" in faults(tmp_path, {"server": {"host": host}})["server.host"]

    kept = loaded(tmp_path, {"server": {"host": host, "api_key": "k"}})
    assert kept.server.host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "LOCALHOST"])
def test_loopback_needs_no_key(tmp_path, host):
    """Who can connect there is on the machine already."""
    assert loaded(tmp_path, {"server": {"host": host}}).server.host == host


def test_a_stop_waits_for_the_longest_call(tmp_path):
    """`drain` covers every provider's timeout."""
    document = {
        "server": {"drain": 9.9},
        "providers": {"outbox": {"timeout": 10.0, "breaker": {"half_open_timeout": 10.0}}},
    }

    assert "10 s" in faults(tmp_path, document)["server.drain"]
    document["server"]["drain"] = 10.0
    assert loaded(tmp_path, document).server.drain == 10.0


def test_a_probe_may_take_as_long_as_a_call(tmp_path):
    """`half_open_timeout` covers the provider's timeout."""
    document = {"providers": {"outbox": {"timeout": 20.0, "breaker": {"half_open_timeout": 19}}}}

    key = "providers.outbox.breaker.half_open_timeout"
    assert "20 s" in faults(tmp_path, document)[key]


def test_a_route_names_providers_that_are_there_and_can_send_that(tmp_path):
    """Each once."""
    document = {
        "providers": {"mail": SENDGRID, "text": TWILIO},
        "channels": {
            "email": {"providers": ["mail", "text", "mail", "post"]},
            "sms": {"providers": ["text"], "weights": {"mail": 1}},
        },
    }

    with pytest.raises(SettingsError) as raised:
        loaded(tmp_path, document)

    assert {(fault.pointer, fault.detail.partition(";")[0]) for fault in raised.value.faults} == {
        ("channels.email.providers", "text is of kind twilio, which cannot send email"),
        ("channels.email.providers", "there is no [providers.post]"),
        ("channels.email.providers", "names a provider twice"),
        ("channels.sms.weights.mail", "is not in the route's providers"),
    }


def test_a_provider_that_is_wrong_by_itself_is_not_missing_too(tmp_path):
    """A fault does not draw others after it."""
    document = {
        "providers": {"mail": {**SENDGRID, "timeout": -1}},
        "channels": {"email": {"providers": ["mail"]}},
    }

    assert set(faults(tmp_path, document)) == {"providers.mail.timeout"}


def test_weights_sum_to_something(tmp_path):
    """A provider without a weight has weight 1."""
    document = {
        "providers": {"mail": SENDGRID},
        "channels": {
            "email": {"providers": ["mail", "outbox"], "strategy": "weighted",
                      "weights": {"mail": 0, "outbox": 0}},
        },
    }  # fmt: skip

    assert "more than 0" in faults(tmp_path, document)["channels.email.weights"]
    del document["channels"]["email"]["weights"]["outbox"]
    assert loaded(tmp_path, document).channels["email"].weights == {"mail": 0}


def test_postgresql_without_its_driver_says_what_to_install(tmp_path, monkeypatch):
    """The driver comes with an extra."""
    monkeypatch.setitem(sys.modules, "psycopg", None)

    found = faults(tmp_path, {"storage": {"url": "postgresql://db/clarion"}})

    assert "pip install 'clarion[postgres]'" in found["storage.url"]


@pytest.mark.parametrize("section", ["storage", "redis"])
def test_a_pool_is_not_larger_at_rest_than_at_most(tmp_path, section):
    """pool_min <= pool_max."""
    found = faults(tmp_path, {section: {"pool_min": 5, "pool_max": 4}})

    assert found == {f"{section}.pool_min": f"must be at most {section}.pool_max (4)"}


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgres:///clarion?nonsense=hunter2", "cannot be read as a PostgreSQL URL"),
        ("postgresql+psycopg://u:hunter2@h/d", "names no database that Clarion can use"),
        ("mysql://u:hunter2@h/d", "names no database"),
        ("clarion.db", "names no database"),
        ("sqlite:///", "names no database"),
        ("sqlite:///:memory:", "names no database"),
        ("sqlite:///a\u0000b", "names no database"),
    ],
)
def test_a_database_that_cannot_be_used_is_a_fault(tmp_path, url, words):
    """Said at start, without the password that the URL may hold."""
    found = faults(tmp_path, {"storage": {"url": url}})

    assert words in found["storage.url"]
    assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    ("table", "key", "words"),
    [
        ({"url": "http://:hunter2@cache/0"}, "redis.url", "names no Redis server"),
        ({"url": "redis://u:hunter2#x@cache"}, "redis.url", "written as %40"),
        ({"url": "redis://cache", "prefix": "a b"}, "redis.prefix", "match pattern"),
        ({"url": "redis://cache", "pool_max": 1}, "redis.pool_max", "greater than or equal to 2"),
        ({"url": "redis://cache", "pol_max": 9}, "redis.pol_max", "did you mean 'pool_max'?"),
    ],
)
def test_a_redis_that_cannot_be_used_is_a_fault(tmp_path, table, key, words):
    """Said at start, without the password that the URL may hold."""
    found = faults(tmp_path, {"redis": table})

    assert words in found[key]
    assert "hunter2" not in str(found)


def test_the_url_of_redis_may_be_kept_elsewhere(tmp_path):
    """It holds a password as a rule."""
    (tmp_path / "redis").write_text("rediss://:hunter2@cache/0\n")
    (tmp_path / "settings.toml").write_text('[redis]\nurl = "file:redis"\n')

    settings = load(tmp_path / "settings.toml", env={})

    assert settings.redis.url == "rediss://:hunter2@cache/0"
    assert "hunter2" not in repr(settings)


def test_the_cap_on_growth_does_not_shorten_the_open_period(tmp_path):
    """A longer `timeout` than `timeout_max` means what it says."""
    settings = loaded(tmp_path, {"providers": {"outbox": {"breaker": {"timeout": 900}}}})

    assert settings.providers["outbox"].breaker.open_time_s(0) == 900


# --- secrets -----------------------------------------------------------------------------------


def test_no_secret_shows_in_what_is_printed_or_logged(tmp_path):
    """Settings may be logged as they are."""
    settings = loaded(
        tmp_path,
        {
            "server": {"api_key": "key-secret"},
            "providers": {"mail": SENDGRID, "text": TWILIO},
        },
    )

    shown = repr(settings) + str(settings) + repr(settings.providers) + repr(settings.server)

    for secret in ("key-secret", "SG.secret", "token-secret"):
        assert secret not in shown


# --- anything at all ---------------------------------------------------------------------------

KEYS = st.sampled_from(
    ["server", "storage", "redis", "queue", "defaults", "channels", "providers", "email", "sms",
     "outbox", "mail", "port", "host", "drain", "max_body", "api_key", "url", "pool_min",
     "providers", "strategy", "weights", "retry", "max_attempts", "kind", "timeout", "breaker",
     "bulkhead", "rate_limit", "size", "directory", "from_address", "public_url"]
) | st.text(max_size=8)  # fmt: skip
SCALARS = (
    st.integers()
    | st.just(10**400)
    | st.floats()
    | st.booleans()
    | st.text(max_size=12)
    | st.sampled_from(["env:X", "env:", "file:x", "file:", "file:/", "1 MB", "weighted", *KINDS])
)
TABLES = st.dictionaries(
    KEYS,
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
        max_leaves=12,
    ),
    max_size=5,
)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """A settings file that every example writes anew."""
    return tmp_path_factory.mktemp("garbage") / "settings.toml"


def settings_or_faults(file: Path, content: bytes, env: dict[str, str]) -> None:
    """Fail on any third way in which loading could end."""
    file.write_bytes(content)
    try:
        found = load(file, env=env)
    except SettingsError as error:
        said = [fault.detail for fault in error.faults]
    else:
        said = list(found.channels)
        # What the engine makes of them has rules of its own; they must not be stricter.
        assert [each.retry for each in found.channels.values()]
        assert [each.breaker for each in found.providers.values()]
    assert said
    assert all(said)


@given(document=TABLES)
def test_whatever_a_file_says_there_are_settings_or_faults(file, document):
    """Never another exception: a typing error must not look like a bug of Clarion."""
    settings_or_faults(file, toml_of(document).encode(), {"X": "x"})


@given(text=st.text(max_size=60) | st.sampled_from(["x = " + "[" * 5000, "x = " + "9" * 5000]))
def test_whatever_bytes_a_file_holds_there_are_settings_or_faults(file, text):
    """Broken TOML, and what is too deep or too large for Python, included."""
    settings_or_faults(file, text.encode("utf-8", "surrogatepass"), {})


def test_keys_may_be_nested_without_end(tmp_path):
    """Nothing walks deeper than the keys that there are."""
    assert set(faults(tmp_path, f"server.{'a.' * 5000}b = 1")) == {"server.a"}


@given(
    name=st.lists(KEYS, min_size=1, max_size=4).map("__".join),
    text=st.text(max_size=20) | st.sampled_from(["[" * 5000, json.dumps(["outbox"]), "{}", "1"]),
)
def test_whatever_the_environment_says_there_are_settings_or_faults(file, name, text):
    """Variables of others begin with CLARION_, too."""
    settings_or_faults(file, b"", {f"CLARION_{name.upper()}": text})
