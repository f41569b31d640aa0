"""
Compare and combine densities
=============================

Each detector is fitted on the same eight points from two clusters. Each density draws a different
boundary of what is normal between and around them. If ``density`` is a list, the score is the mean
of its densities, standardised by held-out scores.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor

from skcoft import COFTDetector

rng = np.random.default_rng(0)
normal = rng.normal(size=(208, 2)) * 0.4 + np.repeat([[-1, -1], [1, 1]], 104, axis=0)
rng.shuffle(normal)
X_train, X_test = normal[:8], normal[8:]

# %%
# ``density`` accepts a name, any object with ``score_samples``, a PyOD detector, or a list of
# these.

forest = IsolationForest(random_state=0)
densities = {
    "kernel density": "kde",
    "Gaussian": "gaussian",
    "local outlier factor": LocalOutlierFactor(3, novelty=True),
    "isolation forest": forest,
    "kernels and forest": ["kde", forest],
    "all four": ["kde", "gaussian", LocalOutlierFactor(3, novelty=True), forest],
}

# %%
# Darker areas are less normal. The red line is the threshold. The gray points are 200 normal test
# points. Each title says how much of the area lies within the threshold. Eight points are too few
# for the isolation forest, which calls the whole area normal. Combined with kernels it does less
# harm.

x, y = np.meshgrid(np.linspace(-4, 4, 80), np.linspace(-4, 4, 80))
grid = np.column_stack([x.ravel(), y.ravel()])
figure, axes = plt.subplots(2, 3, figsize=(9, 6.4), layout="constrained")
for ax, (name, density) in zip(axes.flat, densities.items(), strict=True):
    detector = COFTDetector(density=density, max_iter=0, random_state=0).fit(X_train)
    decision = detector.decision_function(grid)
    ranks = decision.argsort().argsort().reshape(x.shape)
    ax.contourf(x, y, ranks, levels=12, cmap="Blues_r")
    if decision.min() < 0:
        ax.contour(x, y, decision.reshape(x.shape), levels=[0], colors="tab:red")
    ax.scatter(*X_test.T, s=4, color="0.6")
    ax.scatter(*X_train.T, s=30, color="black")
    title = f"{name}: {(decision >= 0).mean():.0%} normal"
    ax.set(title=title, xticks=[], yticks=[])
    accepted = (detector.predict(X_test) == 1).mean()
    print(f"{title}, with {accepted:.0%} of normal test points")
plt.show()
