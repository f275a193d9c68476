from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("clinic", "0006_remove")]
    operations = [
        migrations.RenameModel("Client", "Owner"),
        migrations.AlterField("pet", "owner", models.ForeignKey("clinic.owner", on_delete=models.CASCADE)),
    ]
