"""
Plot scores, anomaly maps, nearest shots and losses
===================================================

A detector is fitted on gravel alone. Which images show something else? Where is it? How certain is
the detector, and what is the decision based on? Four displays in the style of scikit-learn answer
these questions.

The photographs come with scikit-image and the backbone's weights are installed with skcoft, so
everything runs offline.
"""

# %%
# Cut the photograph of gravel into a chessboard of 16 fields. Each of the 8 black fields gives one
# *shot* (training image). The white fields give the test images. Test images and shots share no
# pixel, but they share the light. 16 test images contain a coin and its shadow.

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

FIELD_SIZE, CROP_SIZE = 128, 96
rng = np.random.default_rng(0)
gravel, coin_photo = data.gravel(), data.coins()
regions = measure.regionprops(measure.label(filters.gaussian(coin_photo) > 0.42))
coins = [region for region in regions if 1000 < region.area < 4000]


def crop_fields(color, n):
    """Cut n random crops out of each field of one colour, 0 (black) or 1 (white)."""
    crops = []
    for field in np.argwhere(np.indices((4, 4)).sum(axis=0) % 2 == color) * FIELD_SIZE:
        corners = field + rng.integers(0, FIELD_SIZE - CROP_SIZE + 1, (n, 2))
        crops += [gravel[r : r + CROP_SIZE, c : c + CROP_SIZE] for r, c in corners]
    return np.stack(crops)


def add_coin(image, coin):
    """Return a copy of the image with a coin and its shadow."""
    image, mask = image.copy(), coin.image_filled
    corner = rng.integers(3, CROP_SIZE - 3 - np.array(mask.shape))
    for shift in (3, 0):  # the shadow, then the coin
        row, column = corner + shift
        window = image[row : row + mask.shape[0], column : column + mask.shape[1]]
        window[mask] = window[mask] // 2 if shift else coin_photo[coin.slice][mask]
    return image


shots, normal = crop_fields(0, 1), crop_fields(1, 3)
anomalous = np.stack([add_coin(*pair) for pair in zip(crop_fields(1, 2), coins, strict=False)])
X = np.concatenate([normal, anomalous])
y = np.repeat([1, -1], [len(normal), len(anomalous)])
detector = COFTDetector(max_iter=5, random_state=0).fit(shots)

# %%
# **How certain is it?** Each point is an image. The calibration scores are the held-out scores of
# the shots: each shot is scored by a density that was fitted without it. They determine the
# threshold and the p-values. The line shows the p-value of every score, which is the share of
# calibration scores that are not higher. With 8 shots both are rough: a few images of plain gravel
# lie just below the threshold.

display = ScoreDisplay.from_estimator(detector, X, y, name="Coins in gravel")
decision = display.scores - detector.offset_  # the same as decision_function

# %%
# **Where is it?** All anomaly maps share one scale. Its unit is one standard deviation, and 0 is
# what the least likely patches of a normal image reach on average. The outline is drawn at 2
# standard deviations. The caption of each image is its score minus the threshold.

selected = [0, 16, *range(24, 30)]
captions = [f"{value:+.0f}" for value in decision[selected]]
AnomalyMapDisplay.from_estimator(detector, X[selected], captions=captions, threshold=2, n_cols=4)

# %%
# **What is the decision based on?** Each image is shown with its nearest shots and the distances
# between their embeddings. The detector stores no images, so pass the shots again.

NearestShotsDisplay.from_estimator(
    detector, X[selected[:5]], shots, captions=captions[:5], n_neighbors=2
)

# %%
# **How did fine-tuning go?** Each term of the loss has its own scale. The lines are ragged because
# batches differ.

TrainingDisplay.from_estimator(detector)
plt.show()
