"""What `manage.py test` runs, in a test database of its own."""

from django.test import TestCase

from clinic.models import Owner, Pet


class PetTest(TestCase):
    def test_pet(self):
        Pet.objects.create(owner=Owner.objects.create(name="Ann"), called="Luna", weight=1)
        self.assertEqual(Pet.objects.count(), 1)
