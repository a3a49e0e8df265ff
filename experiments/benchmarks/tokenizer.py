"""How fast cells become tokens: ours beside the published algorithm, one command, a table, and JSON.

    python experiments/benchmarks/tokenizer.py

The published rank-value tokenizer (Geneformer, and SToFM's preprocessing) makes counts dense, divides, and sorts
cell by cell with numpy. It is written here plainly, as it is and with sparse rows, and held to our tokens before it is
timed. Sides take turns in one process; medians are compared, and only their ratios mean much on a busy machine.
"""

import argparse
import json
import os
import time
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from measuring import extra_memory, in_turn, machine, table

from stgraph.errors import StgraphWarning
from stgraph.preprocess.gene_medians import GeneMedians
from stgraph.preprocess.gene_vocabulary import GeneVocabulary
from stgraph.preprocess.rank_values import TARGET, RankValueTokenizer

HERE = Path(__file__).parent
MAX_LENGTH = 2048
BLOCK = 1000
"""Cells that the dense side makes dense at once; the published one takes all, which no machine has memory for."""
PROMISED = 100_000
"""Cells a second, at 200 genes a cell on two cores."""

CASES = {
    "panel of 400, 150 genes a cell": (400, 150),
    "panel of 1,000, 200 genes a cell": (1000, 200),
    "20,000 genes, 200 a cell": (20_000, 200),
    "20,000 genes, 2,000 a cell": (20_000, 2000),
}


def tissue(n: int, n_genes: int, per_cell: int) -> sp.csr_matrix:
    """(N, G) int32 counts with about ``per_cell`` genes in each row, a few genes in most cells."""
    rng = np.random.default_rng(0)
    share = rng.lognormal(sigma=1.5, size=n_genes)
    share = np.minimum(share * per_cell / share.sum(), 0.95)
    for _ in range(30):  # until the sum is right although no share is above one
        share = np.minimum(share * per_cell / share.sum(), 0.95)
    rows, columns = [], []
    for start in range(0, n, 500):
        row, column = np.nonzero(rng.random((min(500, n - start), n_genes), dtype=np.float32) < share)
        rows.append(row + start)
        columns.append(column)
    row, column = np.concatenate(rows), np.concatenate(columns)
    counts = 1 + rng.poisson(0.7, len(row)).astype(np.int32)
    return sp.csr_matrix((counts, (row, column)), shape=(n, n_genes))


def published(counts: sp.csr_matrix, tokens: np.ndarray, medians: np.ndarray, cls: int) -> list[np.ndarray]:
    """Dense and cell by cell; stable sort, so that it can be compared."""
    cells = []
    for start in range(0, counts.shape[0], BLOCK):
        dense = counts[start : start + BLOCK].toarray()
        values = dense / dense.sum(axis=1, keepdims=True) * TARGET / medians
        for value in values:
            nonzero = np.nonzero(value)[0]
            order = nonzero[np.argsort(-value[nonzero], kind="stable")]
            cells.append(np.concatenate([[cls], tokens[order]])[:MAX_LENGTH])
    return cells


def published_sparse(counts: sp.csr_matrix, tokens: np.ndarray, medians: np.ndarray, cls: int) -> list[np.ndarray]:
    """The same without a dense matrix: what a careful user would write."""
    depth = np.repeat(np.asarray(counts.sum(axis=1)).ravel(), np.diff(counts.indptr))
    values = counts.data / depth * TARGET / medians[counts.indices]
    cells = []
    for begin, end in zip(counts.indptr[:-1], counts.indptr[1:], strict=True):
        order = np.argsort(-values[begin:end], kind="stable")
        cells.append(np.concatenate([[cls], tokens[counts.indices[begin:end][order]]])[:MAX_LENGTH])
    return cells


def one_case(what: str, n: int, repeats: int) -> dict[str, Any]:
    """All sides in turn; those of the others see a share of the cells."""
    n_genes, per_cell = CASES[what]
    n = n if per_cell < 1000 else n // 10
    counts, few = tissue(n, n_genes, per_cell), n // 10 if n_genes <= 1000 else n // 50
    names = [f"g{i}" for i in range(n_genes)]
    medians = np.random.default_rng(1).lognormal(size=n_genes)
    vocabulary = GeneVocabulary.of_medians(dict(zip(names, medians.tolist(), strict=True)))
    rest = vocabulary.find(names), medians, vocabulary.cls
    ours, drawn = RankValueTokenizer(vocabulary), RankValueTokenizer(vocabulary, ties="random")
    backwards = counts[:, ::-1].tocsr()
    found, expected = ours.encode(counts[:200], names), published(counts[:200], *rest)
    for i, careful in enumerate(published_sparse(counts[:200], *rest)):
        np.testing.assert_array_equal(found[i], expected[i])
        np.testing.assert_array_equal(careful, expected[i])
    sides = {
        "ours": lambda: ours.encode(counts, names),
        "ours, columns in another order": lambda: ours.encode(backwards, names[::-1]),
        "ours, random ties": lambda: drawn.encode(counts, names),
        "published": lambda: published(counts[:few], *rest),
        "published, sparse": lambda: published_sparse(counts[:few], *rest),
    }
    rate = {
        side: (few if side.startswith("published") else n) / measured["seconds"]
        for side, measured in in_turn(sides, repeats).items()
    }
    before = time.process_time()
    size = result_size(ours, counts, names)
    return {
        "what": what,
        "cells": n,
        "genes a cell": counts.nnz / n,
        **{f"{side}, cells/s": value for side, value in rate.items()},
        "ours, cells per second of one core": n / (time.process_time() - before),
        "over published": rate["ours"] / rate["published"],
        "over sparse": rate["ours"] / rate["published, sparse"],
        "MiB beside the result": (extra_memory(sides["ours"]) - size) / 2**20,
    }


def result_size(tokenizer: RankValueTokenizer, counts: sp.csr_matrix, names: list[str]) -> int:
    cells = tokenizer.encode(counts, names)
    return cells.tokens.nbytes + cells.indptr.nbytes


def exact_medians(counts: sp.csr_matrix) -> np.ndarray:
    """All values at once, sorted by gene."""
    scaled = counts.astype(np.float64)
    scaled.data *= np.repeat(TARGET / np.asarray(scaled.sum(axis=1)).ravel(), np.diff(scaled.indptr))
    columns = scaled.tocsc()
    spans = pairwise(columns.indptr)
    return np.array([np.median(columns.data[begin:end]) if end > begin else np.nan for begin, end in spans])


def streamed_medians(counts: sp.csr_matrix, names: list[str]) -> dict[str, float]:
    sketch = GeneMedians()
    for start in range(0, counts.shape[0], 20_000):
        sketch.add(counts[start : start + 20_000], names)
    return sketch.medians()


def one_corpus(what: str, n: int, repeats: int) -> dict[str, Any]:
    """One streaming pass beside the exact medians of all values, which must all be held and sorted."""
    counts = tissue(n, *CASES[what])
    names = [f"g{i}" for i in range(counts.shape[1])]
    found = streamed_medians(counts, names)
    truth = {gene: median for gene, median in zip(names, exact_medians(counts), strict=True) if not np.isnan(median)}
    sides = {"streamed": lambda: streamed_medians(counts, names), "exact": lambda: exact_medians(counts)}
    rate = {side: n / measured["seconds"] for side, measured in in_turn(sides, repeats).items()}
    return {
        "what": what,
        "cells": n,
        **{f"{side}, cells/s": value for side, value in rate.items()},
        "ratio": rate["streamed"] / rate["exact"],
        "largest error": max(abs(found[gene] / median - 1) for gene, median in truth.items()),
        "promised error": GeneMedians().relative_error,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100_000, help="cells of a slice")
    parser.add_argument("--repeats", type=int, default=5, help="runs of which the median is taken")
    parser.add_argument("--quick", action="store_true", help="a tenth of the cells, one run: does it work at all?")
    parser.add_argument("--out", type=Path, default=HERE / "tokenizer.json", help="the JSON to write")
    options = parser.parse_args()
    n, repeats = (options.cells // 10, 1) if options.quick else (options.cells, options.repeats)
    warnings.simplefilter("error", StgraphWarning)  # every gene here has a token
    result: dict[str, Any] = {"machine": machine() | {"load": os.getloadavg()[0]}}
    result["tokenizers"] = [one_case(what, n, repeats) for what in CASES]
    short = [{key.removesuffix(", cells/s"): value for key, value in row.items()} for row in result["tokenizers"]]
    print("Tokens, cells a second\n" + table(short), flush=True)
    result["medians"] = [one_corpus(what, n, repeats) for what in list(CASES)[1:3]]
    print("\nMedians of genes in one pass\n" + table(result["medians"]), flush=True)
    rate = next(row["ours, cells/s"] for row in result["tokenizers"] if row["what"].startswith("20,000 genes, 200"))
    result["promises"] = [{"what": "cells a second, 200 genes a cell", "measured": rate, "promised": PROMISED}]
    print("\nPromised (at least) and measured\n" + table(result["promises"]))
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten: {options.out}")


if __name__ == "__main__":
    main()
