"""A shop: the migrations of django-oscar."""

from oscar.defaults import *  # noqa: F403

from settings import DATABASES, SECRET_KEY, USE_TZ  # noqa: F401

SITE_ID = 1
OSCAR_DEFAULT_CURRENCY = "EUR"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
HAYSTACK_CONNECTIONS = {"default": {"ENGINE": "haystack.backends.simple_backend.SimpleEngine"}}
ROOT_URLCONF = "settings"
_PARTS = (
    "analytics checkout address shipping catalogue catalogue.reviews communication partner basket payment offer order customer search "
    "voucher wishlists dashboard dashboard.reports dashboard.users dashboard.orders dashboard.catalogue dashboard.offers dashboard.partners "
    "dashboard.pages dashboard.ranges dashboard.reviews dashboard.vouchers dashboard.communications dashboard.shipping"
)


def _name(part):
    """dashboard.reports → ReportsDashboard, catalogue.reviews → CatalogueReviews."""
    words = [word.capitalize() for word in part.split(".")]
    return "".join(reversed(words) if words[0] == "Dashboard" else words)


INSTALLED_APPS = [
    *(f"django.contrib.{name}" for name in ("admin", "auth", "contenttypes", "sessions", "messages", "sites", "flatpages")),
    "oscar.config.Shop",
    *(f"oscar.apps.{part}.apps.{_name(part)}Config" for part in _PARTS.split()),
    "widget_tweaks",
    "haystack",
    "treebeard",
    "django_tables2",
]
