"""
Coins in the gravel
===================

A detector has seen nothing but gravel. Which images are something else, where is it, how sure is
the detector, and what does it lean on? Four displays answer, in the manner of scikit-learn's.

The photos come with scikit-image, the weights of the backbone were installed along with skcoft, so
everything runs offline.
"""

# %%
# The photo of gravel is cut into a chessboard of 16 fields. Each of the 8 black ones gives a shot,
# the white ones the images to test: these share no pixel with a shot, and the light is the same.
# In 16 of them lies a coin, with its shadow.

import matplotlib.pyplot as plt
import numpy as np
from skimage import data, filters, measure

from skcoft import COFTDetector
from skcoft.plotting import (
    AnomalyMapDisplay,
    NearestShotsDisplay,
    ScoreDisplay,
    TrainingDisplay,
)

FIELD, SIZE = 128, 96
rng = np.random.default_rng(0)
gravel, photo = data.gravel(), data.coins()
regions = measure.regionprops(measure.label(filters.gaussian(photo) > 0.42))
coins = [region for region in regions if 1000 < region.area < 4000]


def pieces(color, n):
    """Cut n random pieces out of each field of one colour, 0 or 1."""
    found = []
    for field in np.argwhere(np.indices((4, 4)).sum(axis=0) % 2 == color) * FIELD:
        corners = field + rng.integers(0, FIELD - SIZE + 1, (n, 2))
        found += [gravel[r : r + SIZE, c : c + SIZE] for r, c in corners]
    return np.stack(found)


def with_coin(image, coin):
    """Lay a coin on a piece of gravel."""
    image, mask = image.copy(), coin.image_filled
    place = rng.integers(3, SIZE - 3 - np.array(mask.shape))
    for shift in (3, 0):  # the shadow, then the coin
        row, column = place + shift
        under = image[row : row + mask.shape[0], column : column + mask.shape[1]]
        under[mask] = under[mask] // 2 if shift else photo[coin.slice][mask]
    return image


shots, normal = pieces(0, 1), pieces(1, 3)
anomalous = np.stack([with_coin(*pair) for pair in zip(pieces(1, 2), coins, strict=False)])
X = np.concatenate([normal, anomalous])
y = np.repeat([1, -1], [len(normal), len(anomalous)])
detector = COFTDetector(max_iter=5, random_state=0).fit(shots)

# %%
# How sure is it? Every point is an image. The calibration scores are those of the shots, each
# scored by a density that has not seen it; the threshold follows from them, and so does the
# p-value of every score, the line: the share of such scores that are no higher. With 8 shots both
# are rough: a few pieces of plain gravel lie just below the threshold.

display = ScoreDisplay.from_estimator(detector, X, y, name="Coins in the gravel")
decision = display.scores - detector.offset_  # what decision_function would return

# %%
# Where is it? All maps are on one scale, in standard deviations above what the least likely spots
# of an unseen normal image reach on average. The line is drawn at 2 of them. Above each image
# stands its score, from the threshold.

few = [0, 16, *range(24, 30)]
captions = [f"{value:+.0f}" for value in decision[few]]
AnomalyMapDisplay.from_estimator(detector, X[few], captions=captions, threshold=2, n_cols=4)

# %%
# What does it lean on? The shots that are nearest to each image, with the distances of their
# embeddings. The detector keeps no images, so it is given the shots again.

NearestShotsDisplay.from_estimator(
    detector, X[few[:5]], shots, captions=captions[:5], n_neighbors=2
)

# %%
# How did fine-tuning go? Each term of the loss on its own scale; batches differ, so lines are
# ragged.

TrainingDisplay.from_estimator(detector)
plt.show()
