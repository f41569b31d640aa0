"""
Tune a detector with a grid search
==================================

The detector is fitted on sixteen *shots* (training images), all handwritten zeros. A grid search
inside a pipeline selects the weight of the negative pairs, the backbone and the bandwidth on a few
labelled images. The best detector then ranks test images of zeros and of other digits.

Everything runs offline. The images come with scikit-learn and the backbones start from random
weights, which is enough for images this simple. Use pre-trained weights for photographs.
"""

# %%
# Each image is a flat row of 64 values from 0 to 16. A pipeline rescales the values to 0..1.
# ``image_shape`` tells the detector that the rows are images.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skcoft import COFTDetector
from skcoft.density import KernelDensity
from skcoft.plotting import ScoreDisplay

X, target = load_digits(return_X_y=True)
y = np.where(target == 0, 1, -1)
order = np.random.default_rng(0).permutation(len(y))  # adjacent images are by the same writer
zeros, others = order[y[order] == 1], order[y[order] == -1]
shots, validation = zeros[:16], np.r_[zeros[16:60], others[:150]]
test = np.r_[zeros[60:], others[150:550]]

detector = COFTDetector(
    weights=None,
    image_shape=(8, 8),
    image_size=32,
    density=KernelDensity(),
    random_state=0,
)


def rescale(X):
    return X / 16


pipeline = make_pipeline(FunctionTransformer(rescale), detector)

# %%
# A one-class detector is trained on normal images only, so the folds are given explicitly: fit on
# the shots, score on the labelled images. ``COFTDetector.score`` is the area under the ROC curve.

grid = {
    "coftdetector__backbone": ["resnet10t", "test_vit"],
    "coftdetector__negative_weight": [0, 1],
    "coftdetector__density__bandwidth": ["scale", "loo"],
}
search = GridSearchCV(pipeline, grid, cv=[(shots, validation)], refit=False).fit(X, y)
for score, params in sorted(
    zip(search.cv_results_["mean_test_score"], search.cv_results_["params"], strict=True),
    key=lambda row: -row[0],
):
    short_params = {name.removeprefix("coftdetector__"): value for name, value in params.items()}
    print(f"AUROC {score:.3f}  {short_params}")

# %%
# Refit the best candidate on the shots alone, then rank the test images.

best = pipeline.set_params(**search.best_params_).fit(X[shots])
decision = best.decision_function(X[test])
print(f"AUROC on test images: {best.score(X[test], y[test]):.3f}")
print(f"zeros flagged: {np.mean(decision[y[test] == 1] < 0):.0%}")
print(f"other digits flagged: {np.mean(decision[y[test] == -1] < 0):.0%}")

figure = plt.figure(figsize=(9, 6), layout="constrained")
top, bottom = figure.subfigures(2, 1, height_ratios=[1.3, 1])
display = ScoreDisplay.from_estimator(best, X[test], y[test], ax=top.subplots())
display.ax_.set_xlim(left=np.percentile(display.scores, 1))

ranked = test[np.argsort(decision)]
rows = {
    "most normal": ranked[::-1][:12],
    "most anomalous": ranked[:12],
    "nearest the threshold": test[np.argsort(np.abs(decision))[:12]],
}
for axes_row, (title, indices) in zip(bottom.subplots(3, 12), rows.items(), strict=True):
    for ax, i in zip(axes_row, indices, strict=True):
        ax.imshow(X[i].reshape(8, 8), cmap="gray_r")
        ax.set(xticks=[], yticks=[])
    axes_row[0].set_ylabel(title, rotation=0, ha="right", va="center")
plt.show()
