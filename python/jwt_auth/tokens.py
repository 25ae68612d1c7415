"""Issuing, verifying and revoking tokens with the key pairs that the worker maintains.

The newest active key pair signs, and its name is the token's `kid`. A token is verified with the
active key pair of that `kid` and with the one algorithm that fits its key: the header's `alg` is
never what decides. Key pairs that the worker deactivated verify nothing any more; it keeps them
active as long as a token may live, unless they were retired at once because they leaked.
"""

import uuid
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_pem_public_key,
)
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from jwt_auth.conf import token_settings
from jwt_auth.models import JWTKeyPair, JWTScope, JWTToken

# The algorithm that fits a curve, by the curve's name.
EC_ALGORITHMS = {"secp256r1": "ES256", "secp384r1": "ES384"}


class TokenError(Exception):
    """A token cannot be issued or is not valid; says why, never what is in the token."""


class KeyPairError(TokenError):
    """There is no active key pair to sign with, or the one that is needed cannot be read."""


class InvalidTokenError(TokenError):
    """The token is not valid: malformed, forged, expired, revoked or of another site."""


def issue(
    user: Any,
    scopes: Iterable[str] = (),
    *,
    expires_in: timedelta | None = None,
    purpose: str = "",
) -> str:
    """Signs a token for `user` and records it.

    Raises `TokenError` for a scope that does not exist or is inactive and for a life longer than
    `JWT_MAX_EXPIRY_HOURS`, its `KeyPairError` where nothing can sign.
    """
    settings = token_settings()
    life = settings.default_expiry if expires_in is None else expires_in
    if not timedelta(0) < life <= settings.max_expiry:
        raise TokenError(
            f"a token may live up to {settings.max_expiry} (JWT_MAX_EXPIRY_HOURS), not {life}"
        )
    granted = _active_scopes(scopes)
    key_pair = JWTKeyPair.objects.filter(is_active=True).order_by("-created_at", "-id").first()
    if key_pair is None:
        raise KeyPairError("there is no active key pair; run: manage.py jwt_manage init")
    issued_at = timezone.now().replace(microsecond=0)
    expires_at = issued_at + life
    token_id = str(uuid.uuid4())
    claims = {
        "jti": token_id,
        "sub": str(user.pk),
        "iat": issued_at,
        "exp": expires_at,
        "scopes": sorted(scope.name for scope in granted),
    }
    if settings.issuer is not None:
        claims["iss"] = settings.issuer
    if settings.audience is not None:
        claims["aud"] = settings.audience
    _, algorithm = _verification_key(key_pair)
    signing_key = _signing_key(key_pair, settings.private_key_password)
    signed = jwt.encode(claims, signing_key, algorithm=algorithm, headers={"kid": key_pair.name})
    with transaction.atomic():
        token = JWTToken.objects.create(
            user=user,
            key_pair=key_pair,
            token_id=token_id,
            issued_at=issued_at,
            expires_at=expires_at,
            purpose=purpose,
        )
        token.scopes.set(granted)
    return signed


def verify(token: str, *, scopes: Iterable[str] = ()) -> dict[str, Any]:
    """The claims of a valid token that grants all of `scopes`; else raises `InvalidTokenError`."""
    settings = token_settings()
    key, algorithm = _verification_key(_key_pair_of(token))
    required = ["exp", "iat", "jti", "sub"]
    if settings.issuer is not None:
        required.append("iss")
    if settings.audience is not None:
        required.append("aud")
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            issuer=settings.issuer,
            audience=settings.audience,
            options={"require": required},
        )
    except jwt.InvalidTokenError as error:
        raise InvalidTokenError(str(error)) from error
    if JWTToken.objects.filter(token_id=claims["jti"], is_revoked=True).exists():
        raise InvalidTokenError("the token is revoked")
    missing = set(scopes) - set(claims.get("scopes", ()))
    if missing:
        raise InvalidTokenError(f"the token does not grant: {', '.join(sorted(missing))}")
    return claims


def revoke(token: str) -> bool:
    """Revokes a valid token; false where it was recorded nowhere or revoked before."""
    claims = verify(token)
    return revoke_tokens(JWTToken.objects.filter(token_id=claims["jti"])) > 0


def revoke_tokens(tokens: QuerySet[JWTToken]) -> int:
    """Revokes those of `tokens` that are not revoked yet; how many that were."""
    return tokens.filter(is_revoked=False).update(is_revoked=True, revoked_at=timezone.now())


def _active_scopes(names: Iterable[str]) -> list[JWTScope]:
    wanted = set(names)
    found = list(JWTScope.objects.filter(name__in=wanted, is_active=True))
    missing = wanted - {scope.name for scope in found}
    if missing:
        raise TokenError(f"no such active scope: {', '.join(sorted(missing))}")
    return found


def _key_pair_of(token: str) -> JWTKeyPair:
    try:
        kid = jwt.get_unverified_header(token).get("kid")
    except jwt.InvalidTokenError as error:
        raise InvalidTokenError(str(error)) from error
    key_pair = JWTKeyPair.objects.filter(name=kid, is_active=True).first() if kid else None
    if key_pair is None:
        raise InvalidTokenError("no active key pair has the token's kid")
    return key_pair


def _verification_key(key_pair: JWTKeyPair) -> tuple[RSAPublicKey | EllipticCurvePublicKey, str]:
    """The public key and the one algorithm that it verifies."""
    try:
        key = load_pem_public_key(key_pair.public_key_pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyPairError(f"the public key of {key_pair.name} cannot be read") from error
    if isinstance(key, RSAPublicKey):
        return key, "RS256"
    if isinstance(key, EllipticCurvePublicKey) and key.curve.name in EC_ALGORITHMS:
        return key, EC_ALGORITHMS[key.curve.name]
    raise KeyPairError(f"{key_pair.name} is neither an RSA nor a P-256 or P-384 key pair")


def _signing_key(key_pair: JWTKeyPair, password: bytes | None) -> Any:
    encrypted = "ENCRYPTED PRIVATE KEY" in key_pair.private_key_pem
    if encrypted and password is None:
        raise KeyPairError(
            f"the private key of {key_pair.name} is encrypted: set JWT_PRIVATE_KEY_PASSWORD"
        )
    try:
        return load_pem_private_key(
            key_pair.private_key_pem.encode(), password if encrypted else None
        )
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        reason = "JWT_PRIVATE_KEY_PASSWORD does not open it" if encrypted else "it is damaged"
        raise KeyPairError(
            f"the private key of {key_pair.name} cannot be read: {reason}"
        ) from error
