"""Recipes "tabm" and "tabm-mini": TabM and TabM-mini (Gorishniy, Kotelnikov & Babenko 2025).

Members, blocks, width, dropout, learning rate, and the embeddings of numbers are those of the
authors' package and of pytabkit; batch sizes and patience are pytabkit's; weight decay and
clipping are from the authors' repository, yandex-research/tabm. What differs: members share their
mini-batches (those of pytabkit do not); the best epoch is by log-loss, not by class error; the
embeddings' maps do not decay (there only their linear part does not); each one-hot column starts
with a factor of its own instead of one a feature; a column of very many names becomes vectors; and
epochs are bounded.
"""

from fastnn.nn.layers import BatchEnsemble, Dense, Dropout, Heads, Layer, PiecewiseLinear
from fastnn.nn.losses import Loss
from fastnn.optim.optimizers import AdamW
from fastnn.recipes.plan import Plan, Problem, Recipe, batch_size_by_rows, embedding

_MEMBERS, _WIDTH, _DROPOUT = 32, 512, 0.1
_BLOCKS, _BLOCKS_BEHIND_EMBEDDINGS = 3, 2
_BINS, _SIZE = 48, 16  # of the embedding of a number
_RATE, _DECAY, _CLIP = 2e-3, 3e-4, 1.0
_EPOCHS, _PATIENCE = 200, 16
_ONE_HOT, _CODE_SIZE = 1000, 8  # beyond that many names, vectors
_START = "fan_in_uniform"


def tabm(problem: Problem, epochs: int | None = None) -> Plan:
    """Each member has factors of its own in every layer."""
    return _plan(problem, epochs, "all")


def mini(problem: Problem, epochs: int | None = None) -> Plan:
    """Each member has factors of its own in the first layer alone."""
    return _plan(problem, epochs, "first")


def _plan(problem: Problem, epochs: int | None, scaling: str) -> Plan:
    layers, n = embedding(problem, _CODE_SIZE), problem.numbers
    if n:
        bins = max(1, min(_BINS, problem.rows - 1))
        layers.append(PiecewiseLinear(bins, _SIZE, features=n, decay_factor=0.0))
    block: list[Layer] = [Dense(_WIDTH, "relu", _START, bias_init=_START), Dropout(_DROPOUT)]
    blocks = block * (_BLOCKS_BEHIND_EMBEDDINGS if n else _BLOCKS)
    layers.append(
        BatchEnsemble(
            _MEMBERS,
            [*blocks, Heads(problem.outputs)],
            scaling,
            start="normal" if n else "signs",
            groups=_groups(problem),
        )
    )
    loss = Loss("softmax_cross_entropy" if problem.classifies else "mse")
    optimizer = AdamW(_RATE, weight_decay=_DECAY, clip_norm=_CLIP)
    size = problem.batch_size or batch_size_by_rows(problem.rows)
    return Plan(layers, loss, optimizer, epochs or _EPOCHS, size, _PATIENCE)


def _groups(problem: Problem) -> list[int]:
    """Columns that each number, gap or name, and code has behind the embeddings."""
    codes = len(problem.cardinalities)
    others = problem.inputs - problem.numbers - codes
    return [_SIZE] * problem.numbers + [1] * others + [_CODE_SIZE] * codes


TABM = Recipe(tabm, scaling="quantile", one_hot=_ONE_HOT)
MINI = Recipe(mini, scaling="quantile", one_hot=_ONE_HOT)
