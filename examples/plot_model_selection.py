"""
Select a model, then set its threshold
======================================

Handwritten threes are normal and other digits are anomalies. Which density is best? How much do
more *shots* (training images) help? Where should the threshold be? Everything runs offline: the
images come with scikit-learn, and the backbone is the smaller of the two that need no download, so
that many fits take little time.
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
from skcoft.plotting import ScoreDisplay

digits = load_digits()
order = np.random.default_rng(0).permutation(len(digits.images))  # they are sorted by writer
images, target = digits.images[order] / 16, digits.target[order]
threes, others = images[target == 3], images[target != 3]
X = np.concatenate([threes[:32], others[:32]])  # for model selection
y = np.repeat([1, -1], 32)
calibration = threes[32:92]  # normal images that set the threshold
X_test = np.concatenate([threes[92:], others[32:132]])
y_test = np.repeat([1, -1], [len(threes) - 92, 100])

# %%
# The grid contains two numbers of fine-tuning iterations and two densities. Each split trains on 8
# threes and tests on held-out threes and on other digits. With ``memory``, both densities share
# one fine-tuning. Finally, the best candidate is refitted on the normal images of X.

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
# How much do more shots help?

shots = [3, 8, 16]
auroc_curve = [
    cross_val_score(detector, X, y, cv=OneClassShuffleSplit(3, shots=k, random_state=0))
    for k in shots
]

# %%
# The automatic threshold is estimated from the training images alone. Pass 60 more threes to
# ``set_threshold`` to guarantee a false positive rate: on average, at most 5 % of new threes are
# flagged.

detector.set_params(memory=None)
memory.cleanup()
automatic_threshold = detector.offset_
detector.set_threshold(calibration, max_fpr=0.05)
print(
    classification_report(y_test, detector.predict(X_test), target_names=["anomalous", "normal"])
)

# %%
# Plot the search results, the few-shot curve, the scores with both thresholds, and the p-value of
# every score.

figure, panels = plt.subplot_mosaic(
    [["search", "curve"], ["scores", "scores"]], figsize=(10, 7), layout="constrained"
)
means, deviations = (
    search.cv_results_[f"{name}_test_score"].reshape(2, 2) for name in ("mean", "std")
)
rows = np.arange(2)
for column, label, marker, shift in ((0, "frozen", "s", -0.1), (1, "fine-tuned", "o", 0.1)):
    panels["search"].errorbar(
        means[:, column],
        rows + shift,
        xerr=deviations[:, column],
        fmt=marker,
        capsize=3,
        label=label,
    )
panels["search"].set_yticks(rows, densities)
panels["search"].set(
    xlabel="AUROC, mean and standard deviation over splits",
    ylim=(-0.5, 2.2),
    title="Search, 8 shots",
)
panels["search"].legend(loc="upper left")
panels["curve"].errorbar(
    shots, np.mean(auroc_curve, axis=1), np.std(auroc_curve, axis=1), capsize=3
)
panels["curve"].set_xscale("log", base=2)
panels["curve"].set_xticks(shots, shots)
panels["curve"].set(
    xlabel="shots",
    ylabel="AUROC, mean and standard deviation",
    title="Few-shot curve of the best candidate",
)
display = ScoreDisplay.from_estimator(detector, X_test, y_test, ax=panels["scores"])
display.ax_.axvline(automatic_threshold, color="black", linestyle=":", label="automatic threshold")
display.ax_.legend(loc="center left")
display.ax_.set_xlim(left=np.quantile(display.scores, 0.02))
plt.show()
