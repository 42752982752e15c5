"""The tables of `settings.toml`: every key with its type, its bounds and its default.

What a single key may be stands here; what keys must be to each other is checked in `settings`.
Durations are seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveInt,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from clarion.domain.text import Report
from clarion.hook.credential import Credential, credential_of
from clarion.hook.hook import Hook
from clarion.hook.mapping import PayloadMapping, compile_mapping
from clarion.policies.breaker_settings import BreakerSettings
from clarion.policies.retry import RetrySettings
from clarion.providers.setting import require

_LONGEST_S = 10 * 365 * 86_400.0
"""Ten years: what is longer is a mistake, and could leave the range of a timestamp."""
_UNITS = {"b": 1, "kb": 1_000, "mb": 1_000_000, "gb": 1_000_000_000}
_LARGEST_BYTES = 1_000_000_000


def _size(value: object) -> object:
    """Turn "1 MB" into bytes."""
    if not isinstance(value, str):
        return value
    number = value.strip().rstrip("kmgbKMGB ")
    unit = value.strip().removeprefix(number).strip().lower() or "b"
    try:
        return int(float(number) * _UNITS[unit])
    except (KeyError, ValueError, OverflowError):
        raise ValueError('write a size such as "1 MB" or a number of bytes') from None


def _public_url(url: str) -> str:
    parts = urlsplit(url)
    if url and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise ValueError("must be a URL such as https://notify.example.com, or empty")
    if parts.query or parts.fragment or parts.username or parts.password:
        raise ValueError("must hold no credentials, query or fragment, only scheme, host and path")
    return url.rstrip("/")


def _key(key: SecretStr) -> SecretStr:
    return require(key, "") if key.get_secret_value() else key


Size = Annotated[PositiveInt, Field(le=_LARGEST_BYTES), BeforeValidator(_size)]
Seconds = Annotated[float, Field(gt=0, le=_LONGEST_S)]
SecondsOrZero = Annotated[float, Field(ge=0, le=_LONGEST_S)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
PoolSize = Annotated[int, Field(ge=1, le=1_000)]


class Table(BaseModel):
    """Base of every table: unknown keys are faults, nothing changes after the start."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_boolean(cls, value: Any, info: ValidationInfo) -> Any:
        # In Python `true` is the number 1, in a settings file it is a mistake.
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and annotation in (int, float):
            raise ValueError("should be a number, not true or false")
        return value


class ServerSettings(Table):
    """`[server]`."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    public_url: Annotated[str, AfterValidator(_public_url)] = ""
    drain: Seconds = 25.0
    max_body: Size = 1_000_000
    api_key: Annotated[SecretStr, AfterValidator(_key)] = SecretStr("")


class StorageSettings(Table):
    """`[storage]`; the URL is not shown, since it may hold a password."""

    url: str = Field(default="sqlite:///clarion.db", repr=False)
    pool_min: PoolSize = 2
    pool_max: PoolSize = 10
    node: str = Field(default="", max_length=100)
    """The name of this process among those that share a server; "" for the host's."""


class RedisSettings(Table):
    """`[redis]`; the URL is not shown, since it may hold a password."""

    url: str = Field(default="", repr=False)
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")] = "clarion"
    pool_min: PoolSize = 1
    pool_max: Annotated[int, Field(ge=2, le=1_000)] = 20
    """Two at least: one of them only listens."""


class QueueSettings(Table):
    """`[queue]`."""

    max_in_memory: int = Field(default=2000, ge=8, le=10_000_000)
    max_pending: Count = 10_000_000
    lease: Seconds = 30.0


class DefaultsSettings(Table):
    """`[defaults]`."""

    delivery: Literal["at_least_once", "at_most_once"] = "at_least_once"
    unknown_grace: SecondsOrZero = 30.0
    expires_after: Seconds = 259_200.0
    retention_days: float = Field(default=30.0, gt=0, le=36_500)


class RetryTable(Table):
    """`[channels.NAME.retry]`."""

    max_attempts: Count = 5
    initial_delay: SecondsOrZero = 1.0
    multiplier: float = Field(default=2.0, ge=1.0, le=1_000)
    max_delay: SecondsOrZero = 3600.0
    jitter: bool = True
    retry_after_max: SecondsOrZero = 3600.0


class ChannelTable(Table):
    """`[channels.NAME]`."""

    providers: list[str] = Field(default=["outbox"], min_length=1)
    strategy: Literal["ordered", "weighted"] = "ordered"
    weights: dict[str, NonNegativeFloat] = Field(default_factory=dict)
    spill_after: Seconds = 1.0
    retry_table: RetryTable = Field(default=RetryTable(), alias="retry")

    @property
    def retry(self) -> RetrySettings:
        """How often and how far apart its attempts are."""
        return RetrySettings(**self.retry_table.model_dump())


class BulkheadTable(Table):
    """`[providers.NAME.bulkhead]`."""

    max_concurrent: int = Field(default=32, ge=1, le=10_000)


class BreakerTable(Table):
    """`[providers.NAME.breaker]`."""

    failure_threshold: Count = 5
    success_threshold: Count = 2
    timeout: Seconds = 60.0
    half_open_timeout: Seconds = 30.0
    timeout_multiplier: float = Field(default=2.0, ge=1.0, le=1_000)
    timeout_max: Seconds = 600.0
    jitter: float = Field(default=0.1, ge=0.0, le=1.0)
    window: Literal["consecutive", "count", "time"] = "consecutive"
    size: int = Field(default=100, ge=1, le=1_000_000)
    minimum_calls: Count = 10
    failure_rate: float = Field(default=0.5, gt=0.0, le=1.0)
    slow_call: SecondsOrZero = 0.0
    slow_rate: float = Field(default=1.0, gt=0.0, le=1.0)


class RateLimitTable(Table):
    """`[providers.NAME.rate_limit]`."""

    per_second: float = Field(default=0.0, ge=0, le=1_000_000)
    burst: Count = 1


class ProviderTable(Table):
    """The keys of `[providers.NAME]` that all kinds share."""

    kind: str
    timeout: Seconds = 10.0
    enabled: bool = True
    health_every: SecondsOrZero = 30.0
    misconfigured_probe: Seconds = 300.0
    bulkhead: BulkheadTable = BulkheadTable()
    breaker_table: BreakerTable = Field(default=BreakerTable(), alias="breaker")
    rate_limit: RateLimitTable = RateLimitTable()


class ProviderSettings(ProviderTable):
    """`[providers.NAME]`, with the keys of its kind checked by the kind."""

    config: Any

    @property
    def max_concurrent(self) -> int:
        """The bulkhead: calls in flight at most."""
        return self.bulkhead.max_concurrent

    @property
    def breaker(self) -> BreakerSettings:
        """When its circuit opens and how it recovers."""
        return BreakerSettings(**self.breaker_table.model_dump())


def _object_or_expression(value: object) -> object:
    if isinstance(value, dict | str):
        return value
    raise ValueError("must be a table of templates, or an expression that gives an object")


ObjectOrExpression = Annotated[Any, AfterValidator(_object_or_expression)]


class HookNotificationTable(Table):
    """`[hooks.NAME.notification]`: a template for each field of a request."""

    channel: str = Field(min_length=1)
    to: str = Field(min_length=1)
    subject: str = ""
    text: str = ""
    html: str = ""
    data: ObjectOrExpression = ""
    priority: str = ""
    send_at: str = ""
    expires_at: str = ""
    delivery: str = ""
    tenant: str = ""
    reference: str = ""
    metadata: ObjectOrExpression = ""
    headers: ObjectOrExpression = ""


class HookTable(Table):
    """`[hooks.NAME]`."""

    token: Annotated[SecretStr, AfterValidator(_key)] = SecretStr("")
    secret: SecretStr = SecretStr("")
    signature: Literal["standard", "github", "stripe"] = "standard"
    when: str = ""
    each: str = ""
    idempotency_key: str = ""
    notification: HookNotificationTable

    @property
    def has_one_credential(self) -> bool:
        """Whether exactly one of `token` and `secret` is set."""
        return bool(self.token.get_secret_value()) != bool(self.secret.get_secret_value())

    @property
    def credential(self) -> Credential:
        """What a sender has to show. Raises ValueError where it is too weak or malformed."""
        return credential_of(
            self.token.get_secret_value(), self.secret.get_secret_value(), self.signature
        )

    def mapping(self, name: str, report: Report) -> PayloadMapping:
        """Return the compiled templates; those that cannot be compiled are reported."""
        return compile_mapping(
            name,
            self.notification.model_dump(),
            each=self.each,
            when=self.when,
            idempotency_key=self.idempotency_key,
            report=report,
        )

    def hook(self, name: str) -> Hook:
        """Return the hook of settings that were found to be right."""
        return Hook(name, self.credential, self.mapping(name, _never))


def _never(detail: str, key: str) -> None:
    raise AssertionError(f"the settings were checked: {key}: {detail}")


class Settings(Table):
    """Everything that is configured."""

    server: ServerSettings = ServerSettings()
    storage: StorageSettings = StorageSettings()
    redis: RedisSettings = RedisSettings()
    queue: QueueSettings = QueueSettings()
    defaults: DefaultsSettings = DefaultsSettings()
    channels: dict[str, ChannelTable]
    providers: dict[str, ProviderSettings]
    hooks: dict[str, HookTable]
    base_dir: Path
