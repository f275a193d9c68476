"""What an application does all day: it makes, changes and deletes, and sometimes changes its mind."""

import django
from django.db import transaction
from django.db.models import F

django.setup()
from pets.models import Pet  # noqa: E402  models need the settings

luna = Pet.objects.create(name="Luna", weight=4)
Pet.objects.bulk_create(Pet(name=f"kitten {number}") for number in range(3))
Pet.objects.filter(name="Luna").update(weight=F("weight") + 1)
try:
    with transaction.atomic():
        Pet.objects.create(name="Never")
        raise RuntimeError("the form was wrong after all")
except RuntimeError:
    pass
luna.delete()
