"""UUIDs for everything, and none of the columns that a site may lack."""

import uuid

from django.conf import settings
from django.db import models
from django.utils import timezone


class WithUuid(models.Model):
    """What all of them have."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)

    class Meta:
        abstract = True


class JWTKeyPair(WithUuid):
    """Without a name: its `kid` is its thumbprint."""

    private_key_pem = models.TextField()
    public_key_pem = models.TextField()
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now)


class JWTScope(WithUuid):
    """As everywhere."""

    name = models.CharField(max_length=100, unique=True)
    description = models.TextField(blank=True)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now)


class JWTToken(WithUuid):
    """Without `created_at`, `issued_at`, `revoked_at` and `purpose`."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    key_pair = models.ForeignKey(JWTKeyPair, on_delete=models.PROTECT)
    token_id = models.CharField(max_length=100, unique=True)
    scopes = models.ManyToManyField(JWTScope)
    expires_at = models.DateTimeField()
    is_revoked = models.BooleanField(default=False)
