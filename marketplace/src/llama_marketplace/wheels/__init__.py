"""Wheels read as if an enemy had made them: what one is, or why it is refused."""

from llama_marketplace.wheels.inspecting import Inspected, Wheel, examine, inspect, metadata_of
from llama_marketplace.wheels.refusal import WheelRefused

__all__ = ["Inspected", "Wheel", "WheelRefused", "examine", "inspect", "metadata_of"]
