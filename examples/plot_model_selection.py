"""
Search, refit, threshold, report
================================

Handwritten threes are normal; other digits are anomalies. Which density is best, what are more
shots worth, and where does normal end? Everything runs offline, on the images that come with
scikit-learn, by the smaller of the two backbones that need no download: many fits in little time.
"""

# %%

import tempfile

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import classification_report
from sklearn.model_selection import GridSearchCV, cross_val_score

from skcoft import COFTDetector
from skcoft.density import GaussianDensity, KernelDensity
from skcoft.model_selection import OneClassShuffleSplit

digits = load_digits()
order = np.random.default_rng(0).permutation(len(digits.images))  # they come sorted by writer
images, target = digits.images[order] / 16, digits.target[order]
threes, others = images[target == 3], images[target != 3]
X = np.concatenate([threes[:32], others[:32]])  # what there is to choose a detector by
y = np.repeat([1, -1], 32)
calibration = threes[32:92]  # normal images that set the threshold
X_test = np.concatenate([threes[92:], others[32:132]])
y_test = np.repeat([1, -1], [len(threes) - 92, 100])

# %%
# Fine-tuning and two densities, as a grid. Every split trains on 8 threes and tests on held-out
# threes and on other digits. With ``memory``, the densities share one fine-tuning. In the end the
# best candidate is fitted again on all of X, less the anomalies.

memory = tempfile.TemporaryDirectory()
densities = {
    "kernel": KernelDensity(),
    "Gaussian": GaussianDensity(),
}
search = GridSearchCV(
    COFTDetector("embedded", image_size=48, memory=memory.name, random_state=0),
    {"max_iter": [0, 20], "density": list(densities.values())},
    cv=OneClassShuffleSplit(3, shots=8, random_state=0),
).fit(X, y)
print(f"best: {search.best_params_}, AUROC {search.best_score_:.3f}")
detector = search.best_estimator_
print(f"fitted on {len(detector.embeddings_)} threes")

# %%
# What are more shots worth?

shots = [3, 8, 16]
curve = [
    cross_val_score(detector, X, y, cv=OneClassShuffleSplit(3, shots=k, random_state=0))
    for k in shots
]

# %%
# The automatic threshold comes from the shots alone. 60 more threes set one that keeps a promise:
# at most 5 % of unseen threes are flagged, on average.

detector.set_params(memory=None)
memory.cleanup()
automatic = detector.offset_
detector.set_threshold(calibration, max_fpr=0.05)
print(
    classification_report(y_test, detector.predict(X_test), target_names=["anomalous", "normal"])
)
scores, pvalues = detector.score_samples(X_test), detector.predict_pvalue(X_test)

# %%
# The search, the curve, the scores with both thresholds, the p-values.

normal, anomalous, pale = "#0b7a75", "#d1495b", "#8d99a6"
figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
search_axes, curve_axes, score_axes, pvalue_axes = axes.ravel()
means, spreads = (
    search.cv_results_[f"{name}_test_score"].reshape(2, 2) for name in ("mean", "std")
)
rows = np.arange(2)
for column, label, color, shift in ((0, "frozen", pale, -0.1), (1, "fine-tuned", normal, 0.1)):
    search_axes.errorbar(
        means[:, column], rows + shift, xerr=spreads[:, column], fmt="o", color=color,
        capsize=3, label=label,
    )  # fmt: skip
search_axes.set_yticks(rows, densities)
search_axes.set(
    xlabel="AUROC, mean and spread of splits", ylim=(-0.5, 2.2), title="Search, 8 shots"
)
search_axes.legend(loc="upper left")
curve_axes.errorbar(shots, np.mean(curve, axis=1), np.std(curve, axis=1), color=normal, capsize=3)
curve_axes.set_xscale("log", base=2)
curve_axes.set_xticks(shots, shots)
curve_axes.set(xlabel="shots", ylabel="AUROC, mean and spread", title="Few-shot curve of the best")
bins = np.linspace(np.quantile(scores, 0.02), scores.max(), 40)
for label, value, color in (("threes", 1, normal), ("other digits", -1, anomalous)):
    chosen = y_test == value
    share = np.full(chosen.sum(), 100 / chosen.sum())
    look = {"weights": share, "label": label, "color": color, "alpha": 0.7}
    score_axes.hist(scores[chosen], bins, **look)
    pvalue_axes.hist(pvalues[chosen], np.linspace(0, 1, 21), **look)
score_axes.axvline(automatic, color="black", linestyle=":", label="automatic threshold")
score_axes.axvline(detector.offset_, color="black", linestyle="--", label="5 % of threes")
score_axes.set(xlabel="log density", ylabel="% of test images", title="Thresholds")
score_axes.locator_params(axis="x", nbins=5)
score_axes.legend()
pvalue_axes.axvline(0.05, color="black", linestyle="--", label="5 % of threes")
pvalue_axes.set(xlabel="p-value", ylabel="% of test images", title="Conformal p-values")
pvalue_axes.legend()
plt.show()
