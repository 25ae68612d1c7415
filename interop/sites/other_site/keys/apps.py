"""The site's own app, under the label that its tables are named after."""

from django.apps import AppConfig


class KeysConfig(AppConfig):
    """Labelled as every such app is."""

    name = "other_site.keys"
    label = "jwt_auth"
