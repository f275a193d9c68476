import sqlalchemy as sa
from alembic import op

revision, down_revision = "0004", "0003"


def upgrade() -> None:
    op.alter_column("pet", "weight", type_=sa.Numeric(8, 2))


def downgrade() -> None:
    op.alter_column("pet", "weight", type_=sa.Integer, postgresql_using="weight::int")
