from django.db import models


class Pet(models.Model):
    name = models.CharField(max_length=80)
    weight = models.IntegerField(default=0)
