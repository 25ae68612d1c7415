"""The application that owns the `jwt_auth_*` tables."""

from django.apps import AppConfig


class JWTAuthConfig(AppConfig):
    """Labelled `jwt_auth`: the table names that the worker reads start with it."""

    name = "jwt_auth"
    label = "jwt_auth"
    verbose_name = "JWT authentication"
    default_auto_field = "django.db.models.BigAutoField"
