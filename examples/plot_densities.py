"""
Densities, of others and in a list
==================================

Eight points are all that is known of two clusters. What is normal between and around them, each
density says in its own way; a list of densities is their mean, on the scale of held-out shots.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor

from skcoft import COFTDetector

rng = np.random.default_rng(0)
normal = rng.normal(size=(208, 2)) * 0.4 + np.repeat([[-1, -1], [1, 1]], 104, axis=0)
rng.shuffle(normal)
shots, unseen = normal[:8], normal[8:]

# %%
# ``density`` takes a name, anything with ``score_samples``, a detector of PyOD's, or a list of
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
# The darker, the less normal. The red line is the threshold for points that nobody has seen, of
# which 200 are drawn in gray; beside each name, how much of the picture lies within. The forest,
# which tells little from eight points, calls all of it normal; beside kernels it does little harm.

x, y = np.meshgrid(np.linspace(-4, 4, 80), np.linspace(-4, 4, 80))
grid = np.column_stack([x.ravel(), y.ravel()])
figure, axes = plt.subplots(2, 3, figsize=(9, 6.4), layout="constrained")
for place, (name, density) in zip(axes.flat, densities.items(), strict=True):
    detector = COFTDetector(density=density, max_iter=0, random_state=0).fit(shots)
    decision = detector.decision_function(grid)
    ranks = decision.argsort().argsort().reshape(x.shape)
    place.contourf(x, y, ranks, levels=12, cmap="Blues_r")
    if decision.min() < 0:
        place.contour(x, y, decision.reshape(x.shape), levels=[0], colors="tab:red")
    place.scatter(*unseen.T, s=4, color="0.6")
    place.scatter(*shots.T, s=30, color="black")
    name = f"{name}: {(decision >= 0).mean():.0%} normal"
    place.set(title=name, xticks=[], yticks=[])
    found = (detector.predict(unseen) == 1).mean()
    print(f"{name}, with {found:.0%} of unseen normal points")
plt.show()
