"""What the model can be asked besides stories. A skill gives a question and its one answer."""

from __future__ import annotations

from collections.abc import Callable

from recipe.corpus.held_out import Draw
from recipe.corpus.skills import knowledge, letters, numbers, recall

Skill = Callable[[Draw], tuple[str, str]]

# Name, and how often it is drawn for training among the others.
SKILLS: dict[str, tuple[Skill, int]] = {
    **numbers.SKILLS,
    **letters.SKILLS,
    **knowledge.SKILLS,
}
# Learned from files of their own, before the chats.
RECALL: dict[str, Skill] = recall.SKILLS
