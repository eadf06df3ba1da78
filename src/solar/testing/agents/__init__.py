"""A fake host agent: the originals' wire in three dialects, with fake engines that really answer."""

from solar.testing.agents.agent import FakeAgent
from solar.testing.agents.engine import FakeInstance
from solar.testing.agents.messages import Answered, json_answer

__all__ = ["Answered", "FakeAgent", "FakeInstance", "json_answer"]
