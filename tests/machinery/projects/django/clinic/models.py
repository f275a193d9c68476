"""The models as the last migration leaves them."""

from django.db import models


class Owner(models.Model):
    """Was called Client."""

    name = models.CharField(max_length=200)


class Pet(models.Model):
    owner = models.ForeignKey(Owner, on_delete=models.CASCADE)
    called = models.CharField(max_length=80)
    weight = models.DecimalField(max_digits=8, decimal_places=3)
    species = models.CharField(max_length=20, default="cat")
    notes = models.JSONField(default=dict)
    seen_at = models.DateTimeField(null=True)
    friends = models.ManyToManyField("self")

    class Meta:
        indexes = [models.Index(fields=["species"], name="pet_species")]
