"""A Django project on the database that the environment names."""

import os

SECRET_KEY = "a secret of a test"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "clinic"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ["PGDATABASE"],
        "USER": os.environ["PGUSER"],
        "HOST": os.environ["PGHOST"],
        "PORT": os.environ["PGPORT"],
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
