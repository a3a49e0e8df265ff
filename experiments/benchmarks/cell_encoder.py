"""How fast the encoder of cells is on packed sequences, beside a padded one: one command, a table, JSON.

    python experiments/benchmarks/cell_encoder.py            # some minutes of one processor
    python experiments/benchmarks/cell_encoder.py --quick    # small, to try

Both sides have the same weights and go over the same cells once: ours in batches of so many tokens, Hugging Face's
``BertForMaskedLM`` in batches of so many cells, padded to the longest. Padded batches are taken as cells come, and,
with more care than most scripts take, sorted by length and with genes predicted at masked tokens only. A training step
is masked genes, forward, backward and AdamW; inference gives the projected class token. Before they are timed the two
are held to each other; sides take turns in one process, and what counts is the time of the processor, which other
programs disturb less than that of the clock. Needs ``transformers``, which stgraph itself does not.
"""

import argparse
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from measuring import machine, table
from torch import Tensor, nn
from transformers import BertForMaskedLM

from stgraph.data.cell_sequences import CellSequences
from stgraph.data.token_budget import TokenBudgetSampler
from stgraph.models.bert_checkpoint import save_rank_encoder
from stgraph.models.rank_encoder import RankEncoder
from stgraph.preprocess.ragged_tokens import RaggedTokens

HERE = Path(__file__).parent
MASK, RATE, IGNORED = 1, 0.15, -100
CARELESS, CAREFUL = "padded, as cells come", "padded, by length, head at masked tokens"


def in_turn(sides: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Median processor seconds of each side, which runs once before, uncounted."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, call in sides.items():
            gc.collect()
            begin = time.process_time()
            call()
            if turn:
                seconds[name].append(time.process_time() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


class Setting(NamedTuple):
    """A network, and cells with lengths that are log-normal."""

    name: str
    sizes: dict[str, Any]
    cells: int
    batch: int
    median: float
    longest: int


GENEFORMER = {
    "vocabulary_size": 25427,
    "hidden_channels": 256,
    "num_layers": 6,
    "ffn_channels": 512,
    "out_channels": 256,
}
SETTINGS = [
    Setting("small network, panel of 300 genes", {"vocabulary_size": 303}, 256, 64, 80.0, 301),
    Setting("Geneformer's size, panel of 300 genes", GENEFORMER, 48, 16, 80.0, 301),
    Setting("Geneformer's size, all genes", GENEFORMER, 12, 6, 700.0, 2048),
]
QUICK = [Setting("quick", {"vocabulary_size": 303}, 32, 8, 40.0, 100)]


def sequences(setting: Setting) -> RaggedTokens:
    """The class token, then different genes."""
    rng = np.random.default_rng(0)
    size = setting.sizes["vocabulary_size"]
    lengths = np.exp(rng.normal(np.log(setting.median), 0.6, setting.cells)).clip(10, setting.longest).astype(int)
    cells = [np.concatenate([[size - 1], 2 + rng.permutation(size - 3)[: length - 1]]) for length in lengths]
    return RaggedTokens(np.concatenate(cells).astype(np.int32), np.concatenate([[0], np.cumsum(lengths)]))


class Padded(NamedTuple):
    """Cells of a batch as rows of the longest one's length."""

    tokens: Tensor
    there: Tensor


def padded(cells: RaggedTokens, setting: Setting, *, by_length: bool) -> list[Padded]:
    """All cells, in batches of as many."""
    rng = np.random.default_rng(1)
    order = np.argsort(cells.lengths, kind="stable") if by_length else rng.permutation(len(cells))
    batches = []
    for begin in range(0, len(order), setting.batch):
        chosen = cells.take(order[begin : begin + setting.batch])
        there = torch.arange(int(chosen.lengths.max())) < torch.from_numpy(chosen.lengths)[:, None]
        tokens = torch.zeros(there.shape, dtype=torch.long)
        tokens[there] = torch.from_numpy(chosen.tokens).long()
        batches.append(Padded(tokens, there))
    return batches


def packed(cells: RaggedTokens, setting: Setting) -> Iterator[Any]:
    """All cells, in batches of as many tokens as those of the others have on average."""
    data = CellSequences([cells])
    budget = max(int(cells.lengths.mean() * setting.batch), int(cells.lengths.max()))
    return (data[rows] for rows in TokenBudgetSampler(data, max_tokens=budget))


def our_training(model: RankEncoder, cells: RaggedTokens, setting: Setting) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)

    def epoch() -> None:
        model.train()
        for batch in packed(cells, setting):
            at = (torch.rand(batch.num_tokens) < RATE).nonzero()[:, 0]
            truth = batch.tokens[at]
            batch.tokens[at] = MASK
            descend(F.cross_entropy(model.predict_genes(model(batch).token[at]), truth), optimizer)

    return epoch


def our_inference(model: RankEncoder, cells: RaggedTokens, setting: Setting) -> Callable[[], None]:
    @torch.no_grad()
    def epoch() -> None:
        model.eval()
        for batch in packed(cells, setting):
            model.embed(batch)

    return epoch


def their_training(model: BertForMaskedLM, batches: list[Padded], *, at_masked: bool) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)

    def epoch() -> None:
        model.train()
        for tokens, there in batches:
            masked = (torch.rand(tokens.shape) < RATE) & there
            shown = tokens.masked_fill(masked, MASK)
            if at_masked:
                states = model.bert(input_ids=shown, attention_mask=there.long()).last_hidden_state
                loss = F.cross_entropy(model.cls(states[masked]), tokens[masked])
            else:
                labels = tokens.masked_fill(~masked, IGNORED)
                loss = model(input_ids=shown, attention_mask=there.long(), labels=labels).loss
            descend(loss, optimizer)

    return epoch


def their_inference(model: BertForMaskedLM, projection: nn.Linear, batches: list[Padded]) -> Callable[[], None]:
    @torch.no_grad()
    def epoch() -> None:
        model.eval()
        for batch in batches:
            their_embedding(model, projection, batch)

    return epoch


def their_embedding(model: BertForMaskedLM, projection: nn.Linear, batch: Padded) -> Tensor:
    states = model.bert(input_ids=batch.tokens, attention_mask=batch.there.long()).last_hidden_state
    return F.normalize(projection(states[:, 0]), dim=1)


def descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def networks(setting: Setting) -> tuple[RankEncoder, BertForMaskedLM, BertForMaskedLM]:
    """Ours, and theirs twice, of the same weights."""
    torch.manual_seed(0)
    ours = RankEncoder(**setting.sizes, max_positions=max(setting.longest, 32))
    with tempfile.TemporaryDirectory() as folder:
        save_rank_encoder(ours, Path(folder) / "ours", head=True)
        first, second = (BertForMaskedLM.from_pretrained(Path(folder) / "ours" / "cell_bert") for _ in range(2))
    return ours, first, second


@torch.no_grad()
def difference(ours: RankEncoder, theirs: BertForMaskedLM, cells: RaggedTokens, setting: Setting) -> float:
    """Largest difference of an embedding; it must be rounding."""
    order = np.argsort(cells.lengths, kind="stable")
    batches = padded(cells, setting, by_length=True)
    expected = torch.cat([their_embedding(theirs.eval(), ours.cell_proj, batch) for batch in batches])
    largest = float((ours.eval().embed(CellSequences([cells])[order]) - expected).abs().max())
    if largest > 1e-5:
        raise SystemExit(f"The two sides differ by {largest}: there is nothing to compare.")
    return largest


def compared(setting: Setting, repeats: int) -> list[dict[str, Any]]:
    """Cells a second of all sides."""
    cells = sequences(setting)
    ours, first, second = networks(setting)
    largest = difference(ours, first, cells, setting)
    as_they_come, by_length = (padded(cells, setting, by_length=sort) for sort in (False, True))
    sides: dict[str, dict[str, Callable[[], None]]] = {
        "inference": {
            CARELESS: their_inference(first, ours.cell_proj, as_they_come),
            CAREFUL: their_inference(second, ours.cell_proj, by_length),
            "packed": our_inference(ours, cells, setting),
        },
        "training": {
            CARELESS: their_training(first, as_they_come, at_masked=False),
            CAREFUL: their_training(second, by_length, at_masked=True),
            "packed": our_training(ours, cells, setting),
        },
    }
    tokens = {CARELESS: as_they_come, CAREFUL: by_length}
    rows = []
    for what, calls in sides.items():
        times = in_turn(calls, repeats)
        for name, found in times.items():
            computed = sum(batch.tokens.numel() for batch in tokens[name]) if name in tokens else len(cells.tokens)
            rows.append(
                {
                    "network and cells": setting.name,
                    "what": what,
                    "side": name,
                    "tokens computed": computed,
                    "of them padding": 1 - len(cells.tokens) / computed,
                    "cells/processor second": setting.cells / found,
                    "times as cells come": times[CARELESS] / found,
                    "times the careful one": times[CAREFUL] / found,
                    "runs": repeats,
                    "difference": largest,
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small, writes nothing")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for setting in QUICK if options.quick else SETTINGS:
        found = compared(setting, 1 if options.quick else options.repeats)
        print(table([{k: v for k, v in row.items() if k != "difference"} for row in found]), flush=True)
        rows += found
        if not options.quick:
            report = {"machine": machine(), "rows": rows}
            (HERE / "cell_encoder.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
