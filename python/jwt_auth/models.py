"""The tables that Django and the Rust worker share.

The worker reads and writes these columns directly. Renaming or dropping one stops it: it compares
the tables with what it needs when it starts.
"""

from django.conf import settings
from django.db import models
from django.utils import timezone


class JWTKeyPair(models.Model):
    """A signing key and its verification key. The newest active one signs."""

    name = models.CharField(max_length=100, unique=True, help_text="The `kid` of its tokens.")
    private_key_pem = models.TextField(help_text="PKCS#8, encrypted when a password is set.")
    public_key_pem = models.TextField()
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "JWT key pair"

    def __str__(self) -> str:
        return self.name


class JWTScope(models.Model):
    """Something that a token may permit."""

    name = models.CharField(max_length=100, unique=True)
    description = models.TextField(blank=True)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name = "JWT scope"

    def __str__(self) -> str:
        return self.name


class JWTToken(models.Model):
    """An issued token, so that it can be revoked. The token itself is not kept."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="jwt_tokens"
    )
    # A key pair goes only after its tokens: the worker refuses the deletion too.
    key_pair = models.ForeignKey(JWTKeyPair, on_delete=models.PROTECT, related_name="tokens")
    token_id = models.CharField(max_length=100, unique=True, help_text="The `jti`.")
    scopes = models.ManyToManyField(JWTScope, blank=True, related_name="tokens")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    issued_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    is_revoked = models.BooleanField(default=False)
    revoked_at = models.DateTimeField(null=True, blank=True)
    purpose = models.CharField(max_length=100, blank=True)

    class Meta:
        verbose_name = "JWT token"

    def __str__(self) -> str:
        return self.token_id
