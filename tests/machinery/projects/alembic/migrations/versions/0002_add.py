import sqlalchemy as sa
from alembic import op

revision, down_revision = "0002", "0001"


def upgrade() -> None:
    op.add_column("pet", sa.Column("species", sa.String(20), server_default="cat", nullable=False))
    op.execute("update pet set species = 'dog' where id % 2 = 0")


def downgrade() -> None:
    op.drop_column("pet", "species")
