"""
Training images must cover all normal variation
===============================================

A threshold is valid for images like the training images. This wall was photographed at an angle,
so its bricks look different on the right than on the left. What happens if the training images
show only the left half?

The photographs come with scikit-image and the backbone's weights are installed with skcoft, so
everything runs offline.
"""

# %%
# Cut the wall into a chessboard. The *shots* (training images) are 16 black fields, and the white
# fields are test images. One detector is fitted on the 16 black fields of the left half, the other
# on 16 black fields of the whole wall. Both are tested on the same white fields, and on grass and
# gravel.

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
black, white = (np.argwhere(color == value) * SIZE for value in (0, 1))


def cut_fields(photo, corners):
    return np.stack([photo[row : row + SIZE, column : column + SIZE] for row, column in corners])


other_materials = [cut_fields(photo, white[::4]) for photo in (data.grass(), data.gravel())]
X = np.concatenate([cut_fields(wall, white), *other_materials])
y = np.repeat([1, -1], [len(white), len(X) - len(white)])
left_half = white[:, 1] < 256
shot_corners = {
    "16 shots of the left half": black[black[:, 1] < 256],
    "16 shots of the whole wall": np.random.default_rng(0).permutation(black)[:16],
}

# %%
# Both detectors rank the wall above grass and gravel. Only one threshold suits the whole wall. A
# threshold aims to flag 5 % of the normal images that are like the shots. Other normal images are
# flagged more often, although nothing is wrong with them, because they are new to the detector.

results = {}
for name, corners in shot_corners.items():
    detector = COFTDetector(max_iter=0, random_state=0).fit(cut_fields(wall, corners))
    results[name] = detector, (scores := detector.score_samples(X))
    flagged = scores < detector.offset_
    left, right = flagged[y == 1][left_half], flagged[y == 1][~left_half]
    print(
        f"{name}: AUROC {roc_auc_score(y, scores):.3f}; flagged {left.mean():.0%} of the wall's "
        f"left half, {right.mean():.0%} of its right half, "
        f"{flagged[y == -1].mean():.0%} of grass and gravel"
    )

# %%
# Shots have thin white frames. Test fields have blue frames, or thick orange frames if they are
# flagged. The plots below show all scores, including those of grass and gravel.

figure, axes = plt.subplots(2, 2, figsize=(11, 8), height_ratios=[2, 1], layout="constrained")
for (wall_ax, score_ax), (name, corners) in zip(axes.T, shot_corners.items(), strict=True):
    detector, scores = results[name]
    styles = [("white", 1)] * len(corners)
    styles += [("C1", 4) if score < detector.offset_ else ("C0", 2) for score in scores[y == 1]]
    wall_ax.imshow(wall, cmap="gray")
    wall_ax.set(title=name, xticks=[], yticks=[])
    for (row, column), (edge, width) in zip([*corners, *white], styles, strict=True):
        frame = Rectangle((column + 4, row + 4), SIZE - 9, SIZE - 9, fill=False)
        frame.set(edgecolor=edge, linewidth=width)
        wall_ax.add_patch(frame)
    ScoreDisplay.from_predictions(
        scores,
        y,
        calibration_scores=detector.calibration_scores_,
        offset=detector.offset_,
        ax=score_ax,
        pvalues=False,
    )
    score_ax.locator_params(axis="x", nbins=6)
plt.show()
