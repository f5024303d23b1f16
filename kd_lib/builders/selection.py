"""Which rows go where: splits by group, stratified by class, and limits that keep classes balanced. Arrays only."""

import numpy as np

SHARE = 0.15  # of each class's groups that are held out
FEW = 6  # frames of a track: a few of many tracks teach more than all of one, and still show what a track is


def split_rows(table, seed, limit):
    """Choose the rows of each split.

    Args:
        table: `kd_lib.builders.Table`.
        seed: decides validation.
        limit: at most this many rows in each split; None: all.

    Returns:
        dict "train", "validation", "test" -> int array of rows of the table, ascending.
    """
    labels, groups = table.labels, table.groups
    test = pick_groups(labels, groups, SHARE, 0) if table.test is None else table.test
    validation = np.zeros(len(labels), bool)
    validation[~test] = pick_groups(labels[~test], groups[~test], SHARE, seed)
    parts = {}
    for split, members in {"train": ~test & ~validation, "validation": validation, "test": test}.items():
        rows = np.flatnonzero(members)
        spread = split != "train"
        parts[split] = rows[limited(labels[rows], groups[rows], limit, 0 if split == "test" else seed, spread)]
    return parts


def pick_groups(labels, groups, share, seed):
    """Choose a share of each class's groups.

    Args:
        labels: int array [n].
        groups: int array [n]; a group lies within one class.
        share: 0..1. Each class gives at least one group, unless it has only one: then none.
        seed: int; the same seed chooses the same groups.

    Returns:
        bool array [n], True where the row's group was chosen.
    """
    chosen = []
    for label in np.unique(labels):
        own = np.unique(groups[labels == label])
        count = min(max(1, round(share * len(own))), len(own) - 1)
        chosen.append(np.random.default_rng([seed, int(label)]).permutation(own)[:count])
    return np.isin(groups, np.concatenate(chosen))


def limited(labels, groups, limit, seed, spread):
    """Choose at most `limit` rows, as many of each class as of any other while the class lasts.

    Args:
        labels: int array [n].
        groups: int array [n].
        limit: number of rows; None: all.
        seed: int.
        spread: False takes `FEW` rows of one group after another, then `FEW` more of each; True takes one row of every
            group, then a second of every group, and so on.

    Returns:
        int array of row numbers, ascending.
    """
    if limit is None or limit >= len(labels):
        return np.arange(len(labels))
    generator = np.random.default_rng([seed, 1])
    values, group_of = np.unique(groups, return_inverse=True)
    group_turn = generator.permutation(len(values))[group_of]
    # Steps of the golden ratio: the first few frames taken from a track lie far apart in it.
    frame_turn = _position(group_of) * 0.6180339887 % 1
    rank = np.empty(len(labels), int)
    by_frame = np.argsort(frame_turn, kind="stable")
    rank[by_frame] = _position(group_of[by_frame])
    order = np.lexsort((group_turn, rank) if spread else (rank, group_turn, rank // FEW))
    turn = np.empty(len(labels))
    turn[order] = _position(labels[order])
    class_turn = generator.permutation(int(labels.max()) + 1)[labels]
    return np.sort(np.lexsort((class_turn, turn))[:limit])


def _position(values):
    """Return for each entry how many equal ones come before it."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    lengths = np.diff(np.r_[starts, len(values)])
    position = np.empty(len(values), int)
    position[order] = np.arange(len(values)) - np.repeat(starts, lengths)
    return position
