"""
How many shots are enough?
==========================

A *shot* is a normal training image. Are six photographs of good parts enough, or is it worth
taking 24? If you have some labelled images, you can measure how well the detector separates good
parts from defective ones, and how many good parts it flags.
"""

# %%
# Make 60 synthetic photographs of good machined plates and 24 of plates with a defect. Four
# choices keep many fits fast: the images are small, the backbone is the smaller of the two that
# need no download, it is not fine-tuned, and only the image density is used (``local=False``).
# Other detectors give other figures. For images this small, more than 12 shots do not improve the
# patch density but make it worse.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_validate

from skcoft import COFTDetector
from skcoft.datasets import make_plates
from skcoft.model_selection import OneClassShuffleSplit

plates = make_plates(60, 24, size=64, random_state=0)
X, y = plates.images, plates.labels
detector = COFTDetector("embedded", image_size=64, max_iter=0, local=False, random_state=0)

# %%
# Each split trains on k random shots and tests on 30 other good plates and all defective plates.
# One pass over the test images gives both metrics.


def evaluate(detector, X, y):
    decision = detector.decision_function(X)
    return {"auroc": roc_auc_score(y, decision), "fpr": np.mean(decision[y == 1] < 0)}


shots = [3, 6, 12, 24]
results = []
for k in shots:
    cv = OneClassShuffleSplit(6, shots=k, test_size=30, random_state=0)
    results.append(cross_validate(detector, X, y, cv=cv, scoring=evaluate))
    auroc, fpr = results[-1]["test_auroc"], results[-1]["test_fpr"]
    print(f"{k:2} shots: AUROC {auroc.mean():.3f}, worst {auroc.min():.3f}; ", end="")
    print(f"false positive rate {fpr.mean():.1%}, worst {fpr.max():.1%}")

# %%
# Each point is a split and the lines are means. With few shots the result depends on chance, so
# look at the worst split too.

figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
titles = {"auroc": "AUROC", "fpr": "False positive rate"}
for ax, (name, title) in zip(axes, titles.items(), strict=True):
    values = np.array([result[f"test_{name}"] for result in results])
    labels = ["one split"] + [None] * (values.shape[1] - 1)
    ax.plot(shots, values, "o", color="C0", alpha=0.4, markeredgewidth=0, label=labels)
    ax.plot(shots, values.mean(axis=1), color="C0", label="mean")
    ax.set_xscale("log", base=2)
    ax.set_xticks(shots, shots)
    ax.set(xlabel="shots", title=title, xlim=(2.7, 27))
axes[1].axhline(0.05, color="gray", linestyle="--", label="target of the threshold")
axes[0].legend(loc="upper left")
axes[1].legend()
axes[1].yaxis.set_major_formatter("{x:.0%}")
plt.show()
