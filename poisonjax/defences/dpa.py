"""Deep partition aggregation: votes of networks on parts of the training rows, which few rows cannot change.

Falls to more rows than its certificate counts: at the rates of most backdoors, percents of the data, it certifies
nothing. A trigger whose rows are in every part is learnt by most of the networks.
"""

import dataclasses
import hashlib

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from poisonjax.defences.base import Context, Defence, Shield, guard, voted
from poisonjax.evaluation.victim import Victim
from poisonjax.training.objectives import Objective, Standard
from poisonjax.types import Array, Examples, take


@dataclasses.dataclass(frozen=True)
class DPA(Defence):
    """Predict by the votes of networks, each trained on the rows that a hash gives it (Levine & Feizi 2021).

    One row, inserted or deleted, changes one vote, so that `certificate` rows do not change a prediction, if training
    gives the same weights for the same rows. A replaced row counts as two; one that only gets another label as one,
    since the hash is of the image alone. `analyses.CertifiedRows` draws how many images stand how many rows.

    The networks together cost about what the arm's own costs, which is trained as well but does not vote.

    parts: number of networks, 1,200 or 3,000 on MNIST and 50 or 250 on CIFAR-10 in the paper; a prediction can stand
    half as many rows at most. learner: how each is trained. ValueError for fewer than 2 parts.
    """

    parts: int = 50
    learner: Objective = Standard()

    def __post_init__(self):
        if self.parts < 2:
            raise ValueError(f"parts must be at least 2, got {self.parts}")

    def shield(self, victim: Victim, context: Context) -> Shield:
        """The votes; a part without rows has none."""
        shares = enumerate(partition(context.train, self.parts))
        filled = {f"part{at}": _filled(share, context.training.batch) for at, share in shares if len(share.label)}
        networks = [context.fit(name, self.learner, rows) for name, rows in filled.items()]
        return Shield(logits=Partial(ensemble, jax.tree.map(lambda *leaves: np.stack(leaves), *networks)))


def partition(examples: Examples, parts: int) -> list[Examples]:
    """The rows by the BLAKE2b digest of their image's bytes, modulo the number of parts.

    Each part is sorted by image and label and numbered from 0, so that it tells nothing of the rows of other parts, nor
    of the order of the data. The paper hashes by the sum of the pixels, which is less even.
    """
    images = np.asarray(examples.image)
    contents = [image.tobytes() for image in images]
    of = np.array([int.from_bytes(hashlib.blake2b(content, digest_size=8).digest()) % parts for content in contents])
    order = np.array(sorted(range(len(of)), key=lambda row: (contents[row], int(examples.label[row]))))
    shares = (take(examples, order[of[order] == part]) for part in range(parts))
    return [share._replace(index=np.arange(len(share.label), dtype=np.int32)) for share in shares]


def _filled(share: Examples, batch: int) -> Examples:
    """The rows of a part, the first ones again until they fill whole batches.

    The last batch costs as much as a full one anyway, and parts of one size share one compiled program.
    """
    return take(share, np.arange(-(-len(share.label) // batch) * batch) % len(share.label))


def _outputs(networks: Victim, x: Array) -> Array:
    """The logits of each network for images x [b ...], [p b k]; one network after the other, to save memory."""
    return jax.lax.map(jax.checkpoint(lambda network: network.logits(x)), networks)


def _count(logits: Array) -> Array:
    """The votes of networks with logits [p b k], [b k] int32."""
    return jnp.sum(jax.nn.one_hot(jnp.argmax(logits, -1), logits.shape[-1], dtype=jnp.int32), 0)


def ensemble(networks: Victim, x: Array) -> Array:
    """Votes on images x [b ...] of networks whose arrays are stacked [p ...], as logits in [-1, 1], [b k].

    A draw goes to the smallest class. The gradient is that of the mean of the networks' probabilities.
    """
    logits = _outputs(networks, x)
    return voted(_count(logits) / len(logits), jnp.mean(jax.nn.softmax(logits), 0))


def votes(victim: Victim, x: Array) -> Array:
    """The number of networks for each class of images x [b ...], [b k] int32; a victim without DPA is one network."""
    logits = guard(victim)
    if logits is None or logits.func is not ensemble:
        return _count(victim.logits(x)[None])
    return _count(_outputs(logits.args[0], x))


def certificate(counts: np.ndarray) -> np.ndarray:
    """How many rows may be inserted or deleted without changing the winner of votes [n k]: [n] (theorem 1).

    Half the lead over the strongest rival, rounded down; a rival of a smaller class wins a draw.
    """
    counts, rows = np.asarray(counts, np.int64), np.arange(len(counts))
    winner = np.argmax(counts, -1)
    rivals = counts + (np.arange(counts.shape[-1]) < winner[:, None])
    rivals[rows, winner] = 0
    return (counts[rows, winner] - rivals.max(-1)) // 2
