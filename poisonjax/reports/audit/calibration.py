"""The probability that a network is backdoored, learnt from audits of networks of which it is known."""

import csv
import hashlib
import io
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

LEAST = 5  # networks of each kind
TRUTH = "backdoored"  # the column that says 1 or 0


class Statistics(NamedTuple):
    """What an audit boils down to.

    anomaly_index: the largest among classes whose mask is smaller than the median one, at least 0 (Wang et al. 2019).
    patch_excess: the success of the best patch of all classes, less that of the median class, in [0, 1].
    """

    anomaly_index: float
    patch_excess: float


class Calibration(NamedTuple):
    """A logistic regression on audited networks.

    file, sha256: where they are from. statistics: [n 2]. backdoored: [n] bool. cross_entropy, in nats, and auc: of the
    probabilities that each network has by the others. fitted: of scikit-learn.
    """

    file: str
    sha256: str
    statistics: np.ndarray
    backdoored: np.ndarray
    cross_entropy: float
    auc: float
    fitted: Any

    @property
    def prior_cross_entropy(self) -> float:
        """The cross-entropy, in nats, of the share of backdoored networks given as the probability of each."""
        share = self.backdoored.mean()
        return float(-share * math.log(share) - (1 - share) * math.log(1 - share))

    def probability(self, found: Statistics) -> float:
        """The probability of a backdoor, if it is as frequent as in the file.

        Statistics outside the range of the file count as its ends: nothing is known of what lies beyond.
        """
        within = np.clip([found], self.statistics.min(0), self.statistics.max(0))
        return float(self.fitted.predict_proba(_features(within))[0, 1])

    def covers(self, found: Statistics) -> bool:
        """True if the statistics are in the range of the file."""
        return bool(((self.statistics.min(0) <= found) & (found <= self.statistics.max(0))).all())


def read(path: str | os.PathLike) -> Calibration:
    """Fit a calibration to a CSV file with a line for each audited network.

    Its columns, named in the first line, are those of `Statistics` and `backdoored`, 1 or 0; others are not looked at.
    ValueError, one line, for anything else, and for fewer than 5 networks of a kind.
    """
    try:
        content = pathlib.Path(path).read_bytes()
        rows = list(_rows(content.decode("utf-8-sig")))
    except OSError as error:
        raise ValueError(f"{os.fspath(path)}: {error.strerror}") from None
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from None
    statistics = np.array([found for found, _ in rows], float).reshape(-1, len(Statistics._fields))
    backdoored = np.array([truth for _, truth in rows], bool)
    for kind, number in (("backdoored", backdoored.sum()), ("clean", (~backdoored).sum())):
        if number < LEAST:
            raise ValueError(f"{os.fspath(path)}: must have at least {LEAST} {kind} networks, got {number}")
    digest = hashlib.sha256(content).hexdigest()
    return Calibration(pathlib.Path(path).name, digest, statistics, backdoored, *_fit(statistics, backdoored))


def _fit(statistics: np.ndarray, backdoored: np.ndarray) -> tuple[float, float, Any]:
    """Cross-entropy and area under the ROC curve, both by leave-one-out, and the regression on all."""
    from sklearn.linear_model import LogisticRegression  # slow to import
    from sklearn.metrics import log_loss, roc_auc_score
    from sklearn.model_selection import LeaveOneOut, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model, features = make_pipeline(StandardScaler(), LogisticRegression()), _features(statistics)
    held_out = cross_val_predict(model, features, backdoored, cv=LeaveOneOut(), method="predict_proba")[:, 1]
    scores = log_loss(backdoored, held_out), roc_auc_score(backdoored, held_out)
    return *map(float, scores), model.fit(features, backdoored)


def _features(statistics: np.ndarray) -> np.ndarray:
    """The statistics [n 2], with the logarithm of the anomaly index, which has no upper end."""
    anomaly, excess = statistics.T
    return np.stack([np.log1p(anomaly), excess], -1)


def _rows(text: str):
    """(statistics, True if backdoored) of each line. ValueError, naming the line."""
    lines = csv.DictReader(io.StringIO(text))
    wanted = (*Statistics._fields, TRUTH)
    if missing := [name for name in wanted if name not in (lines.fieldnames or ())]:
        raise ValueError(f"has no column {missing[0]}; it must have {', '.join(wanted)}")
    for line in lines:
        try:
            yield _row(line)
        except ValueError as error:
            raise ValueError(f"line {lines.line_num}: {error}") from None


def _row(line: Mapping[str, str | None]) -> tuple[Statistics, bool]:
    found = Statistics(_number(line, "anomaly_index", math.inf), _number(line, "patch_excess", 1))
    if line[TRUTH] not in ("0", "1"):
        raise ValueError(f"{TRUTH} must be 0 or 1, got {line[TRUTH]!r}")
    return found, line[TRUTH] == "1"


def _number(line: Mapping[str, str | None], name: str, most: float) -> float:
    """A finite number of a line, from 0 to `most`."""
    try:
        value = float(line[name] or "")
    except ValueError:
        value = math.nan
    if not (0 <= value <= most and value < math.inf):
        allowed = f"must be a number from 0 to {most}" if most < math.inf else "must be a number of at least 0"
        raise ValueError(f"{name} {allowed}, got {line[name]!r}")
    return value
