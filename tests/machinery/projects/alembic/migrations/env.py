from alembic import context
from models import Base
from sqlalchemy import create_engine


def include_name(name, type_, parent_names):
    return True


# the guide's lines
engine = create_engine("postgresql+psycopg://")
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata, include_schemas=True, include_name=include_name)
    with context.begin_transaction():
        context.run_migrations()
