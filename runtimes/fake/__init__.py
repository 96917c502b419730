"""A runtime that only simulates; `backend` says how, and what can be set."""

from runtimes.fake.backend import Backend
from runtimes.fake.commands import behaviour_of

__all__ = ["Backend", "behaviour_of"]
