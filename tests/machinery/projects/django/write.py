"""Writes by the models, as an application does."""

from decimal import Decimal

import django
from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

django.setup()
from clinic.models import Owner, Pet  # noqa: E402

first = Owner.objects.create(name="Ann")
Pet.objects.bulk_create([Pet(owner=first, called=f"pet {n}", weight=Decimal(n)) for n in range(20)])
Pet.objects.update(weight=F("weight") * 2)
Pet.objects.filter(called="pet 1").update(seen_at=timezone.now(), notes={"it's": [1, None]})
one, two = Pet.objects.all()[:2]
one.friends.add(two)
Pet.objects.bulk_create([Pet(id=one.id, owner=first, called="upsert", weight=1)], update_conflicts=True, update_fields=["called"], unique_fields=["id"])
with transaction.atomic():
    Pet.objects.filter(called="pet 5").delete()
    try:
        with transaction.atomic():  # a savepoint
            Owner.objects.create(name="never")
            Owner.objects.create(id=first.id, name="twice")
    except IntegrityError:
        pass
    Pet.objects.select_for_update().filter(called="pet 6").update(species="dog")
Owner.objects.exclude(id=first.id).delete()
