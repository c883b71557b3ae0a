"""Who holds which block of the program's memory, and which blocks may be used again.

It knows ids, reference counts and the hash chain of full blocks; of keys, values, layers and
arrays it knows nothing. Each layer group has its own pool; the tables of a sequence are equally
long, with `GONE` where a group's window has passed a block.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict, deque
from collections.abc import Sequence as Sized
from dataclasses import dataclass
from hashlib import blake2b

from llama_core.engine.sequence import Sequence

GONE = -1
DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class Copy:
    """A block to be copied before the step, because its sequence will write where others read."""

    sequence: Sequence
    group: int
    source: int
    target: int


def root_hash(*salt: str | int, secret: bytes = b"") -> bytes:
    """Where a hash chain starts. Different salts never share a block."""
    digest = blake2b(key=secret, digest_size=DIGEST_BYTES)
    for part in salt:
        data = str(part).encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.digest()


def chain_hash(parent: bytes, tokens: Sized[int]) -> bytes:
    return blake2b(parent + array("i", tokens).tobytes(), digest_size=DIGEST_BYTES).digest()


class Pool:
    """The blocks of one layer group: in use, idle but remembered by hash, or free."""

    def __init__(self, num_blocks: int, window: int | None = None) -> None:
        self.num_blocks = num_blocks
        self.window = window
        self.refs = [0] * num_blocks
        self.hash_of: list[bytes | None] = [None] * num_blocks
        self.by_hash: dict[bytes, int] = {}
        self.free: deque[int] = deque(range(num_blocks))
        self.idle: OrderedDict[int, None] = OrderedDict()  # least recently used first

    @property
    def num_available(self) -> int:
        return len(self.free) + len(self.idle)

    @property
    def num_used(self) -> int:
        return self.num_blocks - self.num_available

    def take(self) -> int:
        """A block for one owner; the longest idle one is forgotten where none is free."""
        if self.free:
            block = self.free.popleft()
        else:
            block, _ = self.idle.popitem(last=False)
            self.forget(block)
        self.refs[block] = 1
        return block

    def share(self, block: int) -> None:
        if self.refs[block] == 0:
            del self.idle[block]
        self.refs[block] += 1

    def drop(self, block: int) -> None:
        self.refs[block] -= 1
        assert self.refs[block] >= 0, f"block {block} was given back twice"
        if self.refs[block] == 0:
            if self.hash_of[block] is None:
                self.free.append(block)
            else:
                self.idle[block] = None

    def register(self, block: int, digest: bytes) -> None:
        """Remember what a full block holds, unless an equal one is known already."""
        if self.hash_of[block] is None and digest not in self.by_hash:
            self.hash_of[block] = digest
            self.by_hash[digest] = block

    def forget(self, block: int) -> None:
        digest = self.hash_of[block]
        if digest is not None:
            del self.by_hash[digest]
            self.hash_of[block] = None

    def forget_all(self) -> None:
        for block in list(self.by_hash.values()):
            self.forget(block)
        self.free.extend(self.idle)
        self.idle.clear()


class BlockManager:
    """All pools of a program. `most_rows` is the longest chunk a step may compute."""

    def __init__(
        self, windows: Sized[int | None], num_blocks: int, block_size: int, most_rows: int
    ) -> None:
        self.block_size = block_size
        self.most_rows = most_rows
        self.pools = [Pool(num_blocks, window) for window in windows]
        self._windowed = any(window is not None for window in windows)

    def num_used(self) -> int:
        return sum(pool.num_used for pool in self.pools)

    def usage(self) -> float:
        """How full the fullest pool is, from 0 to 1."""
        return max((pool.num_used / max(1, pool.num_blocks) for pool in self.pools), default=0.0)

    def fits(self, num_tokens: int) -> bool:
        """Whether a sequence of this length can be held at all, with nothing beside it."""
        return all(self._peak(pool, num_tokens) <= pool.num_blocks for pool in self.pools)

    def lookup(self, sequence: Sequence) -> int:
        """How many of its first blocks the prefix cache holds. One token is left to compute."""
        if not sequence.reuse:
            return 0
        most = (len(sequence.tokens) - 1) // self.block_size
        hashes = self._hashes(sequence, most)
        for pool in self.pools:
            if pool.window is None:
                known = pool.by_hash
                most = next((i for i in range(most) if hashes[i] not in known), most)
        while most and not all(
            hashes[i] in pool.by_hash
            for pool in self.pools
            for i in range(self._first_live(pool, most * self.block_size), most)
        ):
            most -= 1
        return most

    def has_room(self, sequence: Sequence, hits: int, running: Sized[Sequence]) -> bool:
        """Whether all its tokens fit beside what running prompts have still to take."""
        for group, pool in enumerate(self.pools):
            first = self._first_live(pool, hits * self.block_size)
            woken = sum(
                pool.refs[pool.by_hash[digest]] == 0 for digest in sequence.hashes[first:hits]
            )
            promised = sum(
                max(0, self._peak(pool, len(other.tokens)) - self._held(other, group))
                for other in running
                if other.num_uncomputed > 1
            )
            needed = max(0, self._peak(pool, len(sequence.tokens)) - (hits - first))
            if needed + woken + promised > pool.num_available:
                return False
        return True

    def attach(self, sequence: Sequence, hits: int) -> None:
        """Start a sequence on the `hits` cached blocks that `lookup` found."""
        sequence.tables = []
        for pool in self.pools:
            first = self._first_live(pool, hits * self.block_size)
            table = [GONE] * first
            for digest in sequence.hashes[first:hits]:
                block = pool.by_hash[digest]
                pool.share(block)
                table.append(block)
            sequence.tables.append(table)
        sequence.num_computed = hits * self.block_size
        sequence.num_registered = hits

    def grow(self, sequence: Sequence, length: int, copies: list[Copy]) -> bool:
        """Make its blocks cover `length` tokens, writable from the first uncomputed one.

        All or nothing; what has to be copied first is added to `copies`.
        """
        if not self.pools:  # a program without attention, or one that keeps nothing
            return True
        more = -(-length // self.block_size) - len(sequence.tables[0])
        if more <= 0 and not sequence.shared:
            return True
        more = max(more, 0)
        first = sequence.num_computed // self.block_size
        split: list[list[int]] = []
        for pool, table in zip(self.pools, sequence.tables, strict=True):
            joint = [i for i in range(first, len(table)) if pool.refs[table[i]] > 1]
            if more + len(joint) > pool.num_available:
                return False
            split.append(joint)
        for group, (pool, table) in enumerate(zip(self.pools, sequence.tables, strict=True)):
            for i in split[group]:
                target = pool.take()
                copies.append(Copy(sequence, group, table[i], target))
                pool.drop(table[i])
                table[i] = target
            table.extend([pool.take() for _ in range(more)])
        sequence.shared = False
        return True

    def commit(self, sequence: Sequence, length: int) -> None:
        """Its first `length` tokens are in memory: remember full blocks, slide windows."""
        full = length // self.block_size
        if full == sequence.num_registered:
            return
        hashes = self._hashes(sequence, full)
        for pool, table in zip(self.pools, sequence.tables, strict=True):
            for i in range(sequence.num_registered, full):
                if table[i] != GONE:
                    pool.register(table[i], hashes[i])
        sequence.num_registered = full
        if self._windowed:
            self._slide(sequence, length)

    def fork(self, parent: Sequence, child: Sequence) -> None:
        """Give the child the parent's blocks too."""
        child.tables = [table.copy() for table in parent.tables]
        for pool, table in zip(self.pools, child.tables, strict=True):
            for block in table:
                if block != GONE:
                    pool.share(block)
        parent.shared = child.shared = True

    def release(self, sequence: Sequence) -> None:
        """Take all its blocks back. The last are forgotten first: they help the fewest others."""
        for pool, table in zip(self.pools, sequence.tables, strict=False):
            for block in reversed(table):
                if block != GONE:
                    pool.drop(block)
        sequence.tables = []
        sequence.num_computed = sequence.num_registered = 0
        sequence.shared = False

    def forget_all(self) -> None:
        """Empty the prefix cache, as after an adapter's weights were replaced."""
        for pool in self.pools:
            pool.forget_all()

    def _hashes(self, sequence: Sequence, count: int) -> list[bytes]:
        size, hashes = self.block_size, sequence.hashes
        for i in range(len(hashes), count):
            parent = hashes[i - 1] if i else sequence.root
            hashes.append(chain_hash(parent, sequence.tokens[i * size : i * size + size]))
        return hashes

    def _slide(self, sequence: Sequence, length: int) -> None:
        for pool, table in zip(self.pools, sequence.tables, strict=True):
            for i in range(self._first_live(pool, length) - 1, -1, -1):
                if table[i] == GONE:
                    break
                pool.drop(table[i])
                table[i] = GONE

    def _first_live(self, pool: Pool, position: int) -> int:
        """The first block that the token at this position can still look at."""
        if pool.window is None:
            return 0
        return max(0, position - pool.window + 1) // self.block_size

    def _peak(self, pool: Pool, num_tokens: int) -> int:
        """The most blocks that a sequence of this length holds at one time."""
        blocks = -(-num_tokens // self.block_size)
        if pool.window is None:
            return blocks
        return min(blocks, (pool.window + self.most_rows) // self.block_size + 2)

    def _held(self, sequence: Sequence, group: int) -> int:
        return len(sequence.tables[group]) - sequence.tables[group].count(GONE)
