import sqlalchemy as sa
from alembic import op

revision, down_revision = "0003", "0002"


def upgrade() -> None:
    op.alter_column("pet", "name", new_column_name="called", type_=sa.String(80))


def downgrade() -> None:
    op.alter_column("pet", "called", new_column_name="name", type_=sa.String(20))
