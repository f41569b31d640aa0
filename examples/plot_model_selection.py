"""
Search, threshold, report
=========================

Handwritten threes are normal; other digits are anomalies. How many shots are needed, which density
is best, and where does normal end? Everything runs offline, on the images that come with
scikit-learn.
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
images = digits.images / 16
threes, others = images[digits.target == 3], images[digits.target != 3]
others = others[np.random.default_rng(0).permutation(len(others))]
X = np.concatenate([threes[:60], others[:60]])  # what is there to choose a detector by
y = np.r_[np.ones(60, dtype=int), -np.ones(60, dtype=int)]
calibration = threes[60:120]  # normal images that set the threshold
X_test = np.concatenate([threes[120:], others[60:260]])
y_test = np.r_[np.ones(len(threes) - 120, dtype=int), -np.ones(200, dtype=int)]

# %%
# Fine-tuning and three densities, as a grid. Every split trains on 8 threes and tests on held-out
# threes and on other digits. With ``memory``, the densities share one fine-tuning.

memory = tempfile.TemporaryDirectory()
detector = COFTDetector(image_size=64, memory=memory.name, random_state=0)
search = GridSearchCV(
    detector,
    {
        "max_iter": [0, 20],
        "density": [KernelDensity(), KernelDensity("loo"), GaussianDensity()],
    },
    cv=OneClassShuffleSplit(3, shots=8, random_state=0),
    refit=False,
).fit(X, y)
found = search.cv_results_["mean_test_score"].reshape(3, 2)
print(f"best: {search.best_params_}, AUROC {search.best_score_:.3f}")

# %%
# What are more shots worth?

detector.set_params(**search.best_params_)
shots = [2, 4, 8, 16]
curve = np.array(
    [
        cross_val_score(detector, X, y, cv=OneClassShuffleSplit(3, shots=k, random_state=0))
        for k in shots
    ]
)

# %%
# The chosen detector, fitted on 16 threes. The automatic threshold comes from these alone; 60 more
# threes set one that holds: at most 5 % of unseen threes are flagged, on average.

detector.set_params(memory=None).fit(threes[:16])
memory.cleanup()
automatic = detector.offset_
detector.set_threshold(calibration, max_fpr=0.05)
predicted = detector.predict(X_test)
print(classification_report(y_test, predicted, target_names=["anomalous", "normal"]))
pvalues = detector.predict_pvalue(X_test)

# %%
# The search, the curve, the scores with both thresholds, the p-values.

figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
search_axes, curve_axes, score_axes, pvalue_axes = axes.ravel()
names = ["kernel", "kernel, leave-one-out", "Gaussian"]
for values, label, color in zip(
    found.T, ("frozen", "fine-tuned"), ("#9aa5b1", "#0b7a75"), strict=True
):
    search_axes.plot(values, names, "o", markersize=9, alpha=0.8, label=label, color=color)
search_axes.set(xlabel="AUROC", ylim=(-0.5, 2.5), title="Search")
search_axes.legend()
curve_axes.errorbar(shots, curve.mean(axis=1), curve.std(axis=1), color="#0b7a75", capsize=3)
curve_axes.set_xscale("log", base=2)
curve_axes.set_xticks(shots, shots)
curve_axes.set(xlabel="shots", ylabel="AUROC", title="Few-shot curve (mean and spread of splits)")
scores = detector.score_samples(X_test)
bins = np.linspace(np.quantile(scores, 0.02), scores.max(), 50)
for label, value, color in (("threes", 1, "#0b7a75"), ("other digits", -1, "#d1495b")):
    score_axes.hist(scores[y_test == value], bins, label=label, color=color, alpha=0.8)
    pvalue_axes.hist(
        pvalues[y_test == value], np.linspace(0, 1, 21), label=label, color=color, alpha=0.8
    )
score_axes.axvline(automatic, color="black", linestyle=":", label="automatic threshold")
score_axes.axvline(detector.offset_, color="black", linestyle="--", label="5 % of threes")
score_axes.set(xlabel="log density", ylabel="test images", title="Thresholds")
score_axes.legend()
pvalue_axes.set(xlabel="p-value", ylabel="test images", title="Conformal p-values")
pvalue_axes.legend()
figure.savefig("model_selection.png", dpi=110)
