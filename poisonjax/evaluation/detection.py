"""A detector's scores against the truth, whatever its threshold."""

import numpy as np

RATES = (0.01, 0.05)  # of false positives
DETECTION = {
    "auroc": "area under the ROC curve",
    **{f"tpr_at_{rate:g}": f"poisoned rows found at {rate:.0%} false positives" for rate in RATES},
}


def detection(
    suspicion: np.ndarray, poisoned: np.ndarray, counted: np.ndarray | None = None
) -> dict[str, float | None]:
    """The numbers of DETECTION for scores [n] of which the higher is the more suspicious, and the truth [n] bool.

    counted: [n] bool, False for cover rows, which are left out; None for all. A true positive rate is that of the last
    threshold with at most so many false positives: ties count as found only together. None where there is nothing to
    find, or nothing else. ValueError for scores that are not finite.
    """
    from sklearn.metrics import roc_auc_score, roc_curve  # slow to import

    if not np.isfinite(suspicion).all():
        raise ValueError("the suspicion of some rows is not finite; a defence must score every row")
    suspicion, poisoned = (suspicion, poisoned) if counted is None else (suspicion[counted], poisoned[counted])
    if poisoned.all() or not poisoned.any():
        return dict.fromkeys(DETECTION)
    false, true, _ = roc_curve(poisoned, suspicion, drop_intermediate=False)
    found = {f"tpr_at_{rate:g}": float(true[np.flatnonzero(false <= rate)[-1]]) for rate in RATES}
    return {"auroc": float(roc_auc_score(poisoned, suspicion)), **found}
