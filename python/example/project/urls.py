"""The admin, to look at key pairs, scopes and tokens."""

from django.contrib import admin
from django.urls import path

urlpatterns = [path("admin/", admin.site.urls)]
