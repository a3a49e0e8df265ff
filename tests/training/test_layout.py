from hypothesis import given
from hypothesis import strategies as st

from stgraph.training.layout import Layout


@given(st.integers(1, 30), st.integers(1, 4), st.integers(1, 4))
def test_every_batch_once_in_one_order(num_batches, accumulate, num_processes):
    layouts = [Layout(accumulate, num_processes, rank) for rank in range(num_processes)]
    done = []
    for step in range(layouts[0].num_steps(num_batches)):
        turns = [layout.turns(step, num_batches) for layout in layouts]
        assert len({len(of) for of in turns}) == 1
        assert 1 <= len(turns[0]) <= accumulate
        mine = sorted(turn.batch for of in turns for turn in of if turn.counts)
        assert len(mine) == layouts[0].num_batches(step, num_batches)
        done += mine
        # Who has nothing left does something of this step, so that no batch is made for nothing else.
        assert {turn.batch for of in turns for turn in of} == set(mine)
    assert done == list(range(num_batches))


@given(st.integers(1, 30), st.integers(1, 4), st.integers(1, 4))
def test_processes_take_what_one_takes_one_after_another(num_batches, accumulate, num_processes):
    many, one = Layout(accumulate, num_processes), Layout(accumulate * num_processes)
    assert many.num_steps(num_batches) == one.num_steps(num_batches)
    for step in range(one.num_steps(num_batches)):
        ranks = [Layout(accumulate, num_processes, rank).turns(step, num_batches) for rank in range(num_processes)]
        together = [turn.batch for round_ in zip(*ranks, strict=True) for turn in round_ if turn.counts]
        assert together == [turn.batch for turn in one.turns(step, num_batches)]
