"""Live Postgres rows in asyncio, from a rowcast server."""

from .client import Client, connect
from .collection import Collection, Difference
from .connection import State
from .error import RowcastError
from .messages import Change, Notification, Subscribed
from .page import Page
from .subscription import Subscription

__all__ = [
    "Change",
    "Client",
    "Collection",
    "Difference",
    "Notification",
    "Page",
    "RowcastError",
    "State",
    "Subscribed",
    "Subscription",
    "connect",
]
