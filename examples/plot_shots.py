"""
How many shots are enough?
==========================

Would six photographs of good parts do, or is it worth while to take 24? Whoever has some labelled
images can ask them: how well are good parts told from bad ones, and how many good ones are
flagged?
"""

# %%
# 60 photographs of good machined plates and 24 with a defect, which are drawn. They are small, the
# backbone is the smaller of the two that need no download, it is not fine-tuned, and whole images
# alone are scored (``local=False``): many fits in little time. Another detector has other figures:
# the local density of so small images gains nothing by more than 12 shots, it loses.

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
# Each split draws k shots, and tests on 30 other good plates and on all defective ones. One pass
# over the test images gives both figures.


def measure(detector, X, y):
    decision = detector.decision_function(X)
    return {"auroc": roc_auc_score(y, decision), "alarms": np.mean(decision[y == 1] < 0)}


shots = [3, 6, 12, 24]
results = []
for k in shots:
    cv = OneClassShuffleSplit(6, shots=k, test_size=30, random_state=0)
    results.append(cross_validate(detector, X, y, cv=cv, scoring=measure))
    auroc, alarms = results[-1]["test_auroc"], results[-1]["test_alarms"]
    print(f"{k:2} shots: AUROC {auroc.mean():.3f}, worst {auroc.min():.3f}; ", end="")
    print(f"false alarms {alarms.mean():.1%}, worst {alarms.max():.1%}")

# %%
# Points are splits, lines their means. Few shots are a matter of luck: look at the worst too.

figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
titles = {"auroc": "Good from bad: AUROC", "alarms": "Good plates flagged"}
for ax, (name, title) in zip(axes, titles.items(), strict=True):
    values = np.array([result[f"test_{name}"] for result in results])
    names = ["a split"] + [None] * (values.shape[1] - 1)
    ax.plot(shots, values, "o", color="C0", alpha=0.4, markeredgewidth=0, label=names)
    ax.plot(shots, values.mean(axis=1), color="C0", label="mean")
    ax.set_xscale("log", base=2)
    ax.set_xticks(shots, shots)
    ax.set(xlabel="shots", title=title, xlim=(2.7, 27))
axes[1].axhline(0.05, color="gray", linestyle="--", label="what the threshold aims at")
axes[0].legend(loc="upper left")
axes[1].legend()
axes[1].yaxis.set_major_formatter("{x:.0%}")
plt.show()
