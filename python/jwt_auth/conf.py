"""The Django settings that this app reads, each with its default.

The maintenance has settings of its own (`JWT_KEYPAIR_ROTATION_DAYS` and others): those are read
by the Rust worker from its environment. `JWT_MAX_EXPIRY_HOURS` and `JWT_PRIVATE_KEY_PASSWORD`
concern both sides and must be the same on both.
"""

from dataclasses import dataclass, field
from datetime import timedelta

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured


@dataclass(frozen=True)
class TokenSettings:
    """How tokens are issued and verified."""

    default_expiry: timedelta
    """Life of a token whose issuer asks for none (`JWT_DEFAULT_EXPIRY_HOURS`, 24)."""

    max_expiry: timedelta
    """Longest life that a token may have (`JWT_MAX_EXPIRY_HOURS`, 168). The worker keeps a
    superseded key pair active for this long, so a longer-lived token would lose its key."""

    issuer: str | None
    """Value of the `iss` claim, required of tokens when set (`JWT_ISSUER`)."""

    audience: str | None
    """Value of the `aud` claim, required of tokens when set (`JWT_AUDIENCE`)."""

    private_key_password: bytes | None = field(repr=False)
    """What encrypted private keys are opened with (`JWT_PRIVATE_KEY_PASSWORD`)."""


def token_settings() -> TokenSettings:
    """Reads the settings; raises `ImproperlyConfigured` naming the one that is wrong."""
    max_expiry = _hours("JWT_MAX_EXPIRY_HOURS", 168)
    default_expiry = _hours("JWT_DEFAULT_EXPIRY_HOURS", 24)
    if default_expiry > max_expiry:
        raise ImproperlyConfigured(
            "JWT_DEFAULT_EXPIRY_HOURS must not be larger than JWT_MAX_EXPIRY_HOURS"
        )
    password = getattr(settings, "JWT_PRIVATE_KEY_PASSWORD", None) or None
    return TokenSettings(
        default_expiry=default_expiry,
        max_expiry=max_expiry,
        issuer=getattr(settings, "JWT_ISSUER", None) or None,
        audience=getattr(settings, "JWT_AUDIENCE", None) or None,
        private_key_password=password.encode() if isinstance(password, str) else password,
    )


def _hours(name: str, default: int) -> timedelta:
    value = getattr(settings, name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ImproperlyConfigured(f"{name} is {value!r}: a number of hours above 0 is needed")
    return timedelta(hours=value)
