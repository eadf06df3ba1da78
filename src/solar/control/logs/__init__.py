"""The logs of everything in one place: taken from wherever they are told, numbered, and followed by any number."""

from solar.control.logs.hub import Limits, LogHub
from solar.control.logs.items import Contact, Gap, Item, LogLine, Place
from solar.control.logs.reader import Reader
from solar.control.logs.wanted import Since, Wanted

__all__ = ["Contact", "Gap", "Item", "Limits", "LogHub", "LogLine", "Place", "Reader", "Since", "Wanted"]
