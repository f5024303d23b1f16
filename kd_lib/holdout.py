"""Hold out most of the physical signs: a yardstick for choices that the usual validation part is too small to make.

GTSRB's validation part shows 195 signs, and good networks err on a handful of them: two recipes cannot be told apart
there. A network that learns from few signs errs more often, and the many signs that it did not see count its errors
well. Left out: test images, which choose nothing.
"""

import dataclasses

import numpy as np


def keep_groups(dataset, share, *, every=3, seed=0):
    """Return a Dataset to choose on: it learns from few physical signs and is validated on all others.

    Args:
        dataset: Dataset; its training and validation parts are divided anew, its test part is left alone.
        share: of the groups of each class that are kept to learn from, above 0; at least two of each class. 1 returns
            `dataset` itself.
        every: of the images of the other groups every so many-th is taken: neighbours in a track are much alike.
        seed: decides which groups are kept.

    Returns:
        Dataset. Its test part is its validation part, so that nobody reads the official one by mistake.

    Raises:
        ValueError: share outside (0, 1], or nothing is left to validate on.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1]. Received: {share}")
    if share == 1:
        return dataset
    whole, generator, kept = dataset.refit_split(), np.random.default_rng(seed), []
    for label in range(dataset.num_classes):
        groups = np.unique(whole.groups[whole.labels == label])
        kept.append(generator.permutation(groups)[: max(2, round(share * len(groups)))])
    learned = np.isin(whole.groups, np.concatenate(kept))
    others = whole.subset(np.flatnonzero(~learned)[::every])
    return dataclasses.replace(dataset, train=whole.subset(np.flatnonzero(learned)), validation=others, test=others)
