from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("clinic", "0001_initial")]
    operations = [
        migrations.AddField("pet", "species", models.CharField(max_length=20, default="cat")),
        migrations.AddField("pet", "seen_at", models.DateTimeField(null=True)),
        migrations.AddField("pet", "notes", models.JSONField(default=dict)),
        migrations.AddIndex("pet", models.Index(fields=["species"], name="pet_species")),
    ]
