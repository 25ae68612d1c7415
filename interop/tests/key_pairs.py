"""Key pairs as a site has made them itself so far."""

from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from django.utils import timezone

from jwt_auth.models import JWTKeyPair

CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1()}


def made_in_python(
    algorithm: str, password: str = "", *, name: str = "made-in-python", days_old: float = 0
) -> JWTKeyPair:
    """An active key pair; its private key is encrypted where there is a password."""
    if algorithm == "RS256":
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    else:
        key = ec.generate_private_key(CURVES[algorithm])
    encryption = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return JWTKeyPair.objects.create(
        name=name,
        private_key_pem=private.decode(),
        public_key_pem=public.decode(),
        created_at=timezone.now() - timedelta(days=days_old),
    )
