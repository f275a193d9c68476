import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None


def upgrade() -> None:
    op.create_table("pet", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(20), nullable=False), sa.Column("weight", sa.Integer, nullable=False))


def downgrade() -> None:
    op.drop_table("pet")
