from django.db import migrations


def fill(apps, _schema_editor):
    for pet in apps.get_model("clinic", "Pet").objects.all():
        pet.notes = {"was": pet.name, "weight": pet.weight}
        pet.save()
    apps.get_model("clinic", "Client").objects.update(name="renamed by a migration")


class Migration(migrations.Migration):
    dependencies = [("clinic", "0002_add")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
