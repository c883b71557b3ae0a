"""One stream of tokens on its way through the engine, as the scheduler sees it.

It knows which tokens it has, how many of them lie in the program's memory, and in which blocks.
It knows nothing of sampling, text or requests; several sequences may belong to one request.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llama_core.engine.tenants import Tenant


UNKNOWN = -1  # a token that is being sampled in a step under way


class Status(Enum):
    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


class Sequence:
    """Tokens, the part of them that is computed, and the blocks that hold it.

    A plain slotted class: its fields change every step, a few hundred of them at a time.
    """

    __slots__ = (
        "account",
        "deadline",
        "drafts",
        "hashes",
        "id",
        "key",
        "num_ahead",
        "num_charged",
        "num_computed",
        "num_prompt",
        "num_registered",
        "num_scheduled",
        "reuse",
        "root",
        "sampled_at",
        "shared",
        "slots",
        "status",
        "tables",
        "tenant",
        "tokens",
    )

    def __init__(
        self,
        id: int,  # noqa: A002  the name its readers expect
        tokens: list[int],
        *,
        root: bytes = b"",
        tenant: str = "",
        slots: int = 1,
        deadline: float | None = None,
        reuse: bool = True,
    ) -> None:
        self.id = id
        self.tokens = tokens
        self.num_prompt = len(tokens)
        self.root = root  # where its hash chain starts: the salt of its tenant and adapter
        self.tenant = tenant
        self.slots = slots  # it and the siblings that will fork off once the prompt is computed
        self.deadline = deadline
        self.reuse = reuse  # whether cached blocks will do, or every row has to be computed

        self.status = Status.WAITING
        self.key: tuple[int, int] = (0, id)  # its place in the order; smaller comes first
        self.account: Tenant | None = None
        self.num_charged = 0  # tokens its tenant has paid for; recomputing is free
        self.drafts: tuple[int, ...] = ()  # guessed tokens to verify in the next step
        self.num_scheduled = 0  # rows in the step being planned, drafts included
        self.num_ahead = 0  # of its last tokens are UNKNOWN yet
        self.sampled_at = -1  # the row of the last step that samples the newest of them

        self.num_computed = 0
        self.tables: list[list[int]] = []  # per layer group; all of one length
        self.hashes: list[bytes] = []  # of its full blocks, as far as they were needed
        self.num_registered = 0  # blocks that the prefix cache has heard of
        self.shared = False  # whether a block it may still write to could be another's too

    @property
    def num_uncomputed(self) -> int:
        return len(self.tokens) - self.num_computed

    def run_ahead(self, limit: int) -> None:
        """Keep a place for the token being sampled, unless it is sure to be the last."""
        if len(self.tokens) + 1 < limit:
            self.tokens.append(UNKNOWN)
            self.num_ahead += 1

    def settle(self, token: int) -> None:
        """The oldest token that a place was kept for is known."""
        self.tokens[-self.num_ahead] = token
        self.num_ahead -= 1

    def fork(self, id: int) -> Sequence:  # noqa: A002
        """A sibling with the same tokens; its blocks come from `BlockManager.fork`."""
        child = Sequence(
            id,
            self.tokens.copy(),
            root=self.root,
            tenant=self.tenant,
            deadline=self.deadline,
            reuse=self.reuse,
        )
        child.num_prompt = self.num_prompt
        child.key = (self.key[0], id)
        child.account = self.account
        child.num_charged = self.num_charged
        child.num_computed = self.num_computed
        child.hashes = self.hashes.copy()
        child.num_registered = self.num_registered
        return child

    def __repr__(self) -> str:
        computed = f"{self.num_computed}/{len(self.tokens)}"
        return f"<Sequence {self.id} {self.status.value} {computed} tokens>"
