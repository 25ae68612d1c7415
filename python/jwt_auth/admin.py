"""Reading the tables in Django's admin.

Key pairs are made and retired by the worker alone, and a private key is shown to nobody.
"""

from django.contrib import admin

from jwt_auth.models import JWTKeyPair, JWTScope, JWTToken


@admin.register(JWTKeyPair)
class JWTKeyPairAdmin(admin.ModelAdmin):
    """Read-only, without the private key."""

    list_display = ["name", "is_active", "created_at", "expires_at"]
    list_filter = ["is_active"]
    search_fields = ["name"]
    fields = ["name", "public_key_pem", "is_active", "created_at", "expires_at"]
    readonly_fields = fields

    def has_add_permission(self, request) -> bool:
        return False

    def has_change_permission(self, request, obj=None) -> bool:
        return False

    def has_delete_permission(self, request, obj=None) -> bool:
        return False


@admin.register(JWTScope)
class JWTScopeAdmin(admin.ModelAdmin):
    """Scopes may be added, described and switched off."""

    list_display = ["name", "description", "is_active", "created_at"]
    list_filter = ["is_active"]
    search_fields = ["name"]


@admin.register(JWTToken)
class JWTTokenAdmin(admin.ModelAdmin):
    """Read-only but for revoking: a deleted row would make its token valid again."""

    list_display = ["token_id", "user", "purpose", "issued_at", "expires_at", "is_revoked"]
    list_filter = ["is_revoked"]
    search_fields = ["token_id"]
    raw_id_fields = ["user"]
    actions = ["revoke_tokens"]

    @admin.action(description="Revoke the selected tokens", permissions=["change"])
    def revoke_tokens(self, request, queryset) -> None:
        from jwt_auth.tokens import revoke_tokens

        revoke_tokens(queryset)

    def get_readonly_fields(self, request, obj=None) -> list[str]:
        return [f.name for f in self.model._meta.fields] + ["scopes"]

    def has_add_permission(self, request) -> bool:
        return False

    def has_delete_permission(self, request, obj=None) -> bool:
        return False
