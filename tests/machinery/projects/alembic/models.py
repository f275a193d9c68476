"""The models as the last migration leaves them."""

from sqlalchemy import Numeric, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Pet(Base):
    __tablename__ = "pet"
    id: Mapped[int] = mapped_column(primary_key=True)
    called: Mapped[str] = mapped_column(String(80))
    weight: Mapped[float] = mapped_column(Numeric(8, 2))
    species: Mapped[str] = mapped_column(String(20), server_default="cat")
