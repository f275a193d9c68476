from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("clinic", "0004_rename")]
    operations = [
        migrations.AlterField("pet", "weight", models.DecimalField(max_digits=8, decimal_places=3)),
        migrations.AlterField("pet", "called", models.CharField(max_length=80)),
        migrations.AlterField("client", "name", models.CharField(max_length=200)),
    ]
