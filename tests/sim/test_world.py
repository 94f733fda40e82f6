"""The simulator: some hundreds of small worlds, each from a seed, in which processes die at commits and rail calls."""

from __future__ import annotations

import pytest

from tests.sim.world import play

CHUNKS = 20
SEEDS_A_CHUNK = 15


@pytest.mark.timeout(600)
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_coin_is_lost_or_created(chunk: int) -> None:
    """Whatever dies, hangs or gets lost: books balance at every step, and at the end every coin is counted once."""
    for seed in range(chunk * SEEDS_A_CHUNK, (chunk + 1) * SEEDS_A_CHUNK):
        play(seed)


def test_a_seed_repeats_itself() -> None:
    """The same seed is the same world: a failure found once can be looked at again."""
    assert play(7) == play(7)


def test_worlds_are_deadly_enough() -> None:
    """The worlds of this suite do kill: otherwise they prove nothing."""
    assert sum(play(seed).kills for seed in range(10)) > 10
