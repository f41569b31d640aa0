"""
Shots have to show all that is normal
=====================================

A threshold holds for images like the shots. This wall was photographed at an angle, so that its
bricks look another way on the right than on the left. What becomes of a detector that has seen
nothing but the left half?

The photos come with scikit-image, the weights of the backbone were installed along with skcoft, so
everything runs offline.
"""

# %%
# The wall is cut into a chessboard: 16 of the black fields are the shots, the white ones are
# tested. One detector gets the 16 black fields of the left half, the other one as many from all
# over the wall. Both are tested on the same fields, and on grass and gravel.

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle
from skimage import data
from sklearn.metrics import roc_auc_score

from skcoft import COFTDetector
from skcoft.plotting import ScoreDisplay

SIZE = 64
wall = data.brick()
color = np.indices((8, 8)).sum(axis=0) % 2
black, white = (np.argwhere(color == which) * SIZE for which in (0, 1))


def pieces(photo, places):
    return np.stack([photo[row : row + SIZE, column : column + SIZE] for row, column in places])


others = [pieces(photo, white[::4]) for photo in (data.grass(), data.gravel())]
X = np.concatenate([pieces(wall, white), *others])
y = np.repeat([1, -1], [len(white), len(X) - len(white)])
on_the_left = white[:, 1] < 256
shots = {
    "16 shots of the left half": black[black[:, 1] < 256],
    "16 shots of the whole wall": np.random.default_rng(0).permutation(black)[:16],
}

# %%
# Both rank the wall above grass and gravel. The threshold is another matter: it aims at 5 % of
# unseen normal images, and can only mean those that are like the shots. The others are flagged
# more often, although nothing is wrong with them. To the detector they are something new.

results = {}
for name, places in shots.items():
    detector = COFTDetector(max_iter=0, random_state=0).fit(pieces(wall, places))
    results[name] = detector, (scores := detector.score_samples(X))
    flagged = scores < detector.offset_
    left, right = flagged[y == 1][on_the_left], flagged[y == 1][~on_the_left]
    print(
        f"{name}: AUROC {roc_auc_score(y, scores):.3f}; flagged {left.mean():.0%} of the wall's "
        f"left half, {right.mean():.0%} of its right half, {flagged[y == -1].mean():.0%} of others"
    )

# %%
# Shots have thin white frames, tested fields blue ones, and thick orange ones where they are
# flagged. Below are all scores, with those of grass and gravel.

figure, axes = plt.subplots(2, 2, figsize=(11, 8), height_ratios=[2, 1], layout="constrained")
for (above, below), (name, places) in zip(axes.T, shots.items(), strict=True):
    detector, scores = results[name]
    looks = [("white", 1)] * len(places)
    looks += [("C1", 4) if score < detector.offset_ else ("C0", 2) for score in scores[y == 1]]
    above.imshow(wall, cmap="gray")
    above.set(title=name, xticks=[], yticks=[])
    for (row, column), (edge, width) in zip([*places, *white], looks, strict=True):
        frame = Rectangle((column + 4, row + 4), SIZE - 9, SIZE - 9, fill=False)
        frame.set(edgecolor=edge, linewidth=width)
        above.add_patch(frame)
    ScoreDisplay.from_predictions(
        scores,
        y,
        calibration_scores=detector.calibration_scores_,
        offset=detector.offset_,
        ax=below,
        pvalues=False,
    )
    below.locator_params(axis="x", nbins=6)
plt.show()
