"""
Adversarial images
==================

An adversarial image carries a change that is too small to see but fools a classifier. A detector
that uses the same network flags such images, because they are unlike the images it was fitted on.
Random noise of the same size, such as the noise of a different camera, lowers the score too, but
by less.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from skcoft import COFTDetector
from skcoft.datasets import make_plates

plates = make_plates(40, 16, size=128, random_state=1)
images = plates.images / np.float32(255)
training_images, good_images = images[:8], images[28:40]

# %%
# Fit a detector on eight good plates. Train a classifier, good against defective, on embeddings
# from the same network:

detector = COFTDetector(max_iter=0, random_state=0).fit(training_images)
indices = np.r_[8:28, 40:56]
classifier = LogisticRegression(C=1e4).fit(detector.embed(images[indices]), plates.labels[indices])

# %%
# The attack is projected gradient descent [1]_. It takes ten steps along the gradient of the
# classifier's decision through the network. No pixel changes by more than 2 of 255 gray levels in
# total:

MAX_CHANGE = 2 / 255
network = detector.embedder_.network_
weights, bias = torch.tensor(classifier.coef_[0]), torch.tensor(classifier.intercept_[0])


def classifier_decision(images):
    """Return the classifier's decision for images (n, 3, H, W); positive means good."""
    size = detector.embedder_.image_size_
    resized = torch.nn.functional.interpolate(images, size, mode="bilinear", antialias=True)
    embeddings = torch.nn.functional.normalize(network(resized), dim=1)
    return embeddings.double() @ weights + bias


clean = torch.from_numpy(good_images).movedim(3, 1)
attacked = clean.clone()
for _ in range(10):
    attacked.requires_grad_()
    (gradient,) = torch.autograd.grad(classifier_decision(attacked).sum(), attacked)
    attacked = attacked.detach() - MAX_CHANGE / 4 * gradient.sign()
    attacked = torch.minimum(torch.maximum(attacked, clean - MAX_CHANGE), clean + MAX_CHANGE)
    attacked = attacked.clamp(0, 1)
signs = torch.randint(0, 2, clean.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
variants = {
    "good": clean,
    "attacked": attacked,
    "random noise": (clean + MAX_CHANGE * signs).clamp(0, 1),
}

# %%
# The attack fools the classifier but not the detector. A random change of the same size does not
# fool the classifier:

margins = {}
for name, batch in variants.items():
    predictions = classifier.predict(detector.embed(batch))
    decisions = detector.decision_function(batch)
    margins[name] = decisions / detector.calibration_scores_.std()
    print(
        f"{name}: the classifier accepts {np.sum(predictions == 1)} images, the detector "
        f"{np.sum(decisions >= 0)}"
    )

# %%

figure, axes = plt.subplots(
    1, 4, figsize=(12, 3.3), layout="constrained", width_ratios=(1, 1, 1, 1.4)
)
change = 0.5 + (attacked - clean)[0] / (2 * MAX_CHANGE)
panels = {"good": clean[0], "attacked": attacked[0], "the change, enlarged": change}
for ax, (title, image) in zip(axes, panels.items(), strict=False):
    ax.imshow(image.movedim(0, 2).clamp(0, 1).numpy())
    ax.set(title=title, xticks=[], yticks=[])
for i, values in enumerate(margins.values()):
    axes[3].plot(values, np.full(len(values), i), "o", alpha=0.5)
axes[3].set_yticks(range(len(margins)), [*margins])
axes[3].axvline(0, color="tab:red", linestyle="--", label="threshold")
axes[3].set(
    xlabel="distance from the threshold, in standard\ndeviations of the calibration scores"
)
axes[3].invert_yaxis()
axes[3].legend()
plt.show()

# %%
# .. [1] Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018,
#    arXiv 1706.06083. A related method detects attacks by the density of activations: "DAAIN:
#    Detection of Anomalous and Adversarial Input using Normalizing Flows", arXiv 2105.14638.
