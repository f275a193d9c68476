from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("clinic", "0005_alter")]
    operations = [migrations.RemoveField("pet", "chip"), migrations.AddField("pet", "friends", models.ManyToManyField("clinic.pet"))]
