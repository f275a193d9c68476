from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("clinic", "0003_fill")]
    operations = [migrations.RenameField("pet", "name", "called"), migrations.RenameField("pet", "client", "owner")]
