from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    operations = [
        migrations.CreateModel("Client", [("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")), ("name", models.CharField(max_length=50))]),
        migrations.CreateModel(
            "Pet",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=20)),
                ("weight", models.IntegerField(default=0)),
                ("chip", models.TextField(default="")),
                ("client", models.ForeignKey("clinic.client", on_delete=models.CASCADE)),
            ],
        ),
    ]
