"""
Pictures that were made to deceive
==================================

A classifier can be deceived by changes that nobody sees. A detector on the same network notices
such images: they are unlike anything that it was fitted on. Random noise of the same size, as of a
camera that has changed, moves its score as well, and less.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from skcoft import COFTDetector
from skcoft.datasets import make_plates

plates = make_plates(40, 16, size=128, random_state=1)
images = plates.images / np.float32(255)
shots, sound = images[:8], images[28:40]

# %%
# A detector of eight shots, and a classifier, sound or defective, on embeddings of its network:

detector = COFTDetector(max_iter=0, random_state=0).fit(shots)
train = np.r_[8:28, 40:56]
classifier = LogisticRegression(C=1e4).fit(detector.embed(images[train]), plates.labels[train])

# %%
# The attack takes ten steps along the gradient of the classifier's decision through the network,
# 2 grey levels of 255 at most in all (projected gradient descent [1]_):

MOST = 2 / 255
network = detector.embedder_.network_
weights, bias = torch.tensor(classifier.coef_[0]), torch.tensor(classifier.intercept_[0])


def decide(x):
    """What the classifier makes of images (n, 3, H, W): positive is sound."""
    size = detector.embedder_.image_size_
    resized = torch.nn.functional.interpolate(x, size, mode="bilinear", antialias=True)
    embeddings = torch.nn.functional.normalize(network(resized), dim=1)
    return embeddings.double() @ weights + bias


clean = torch.from_numpy(sound).movedim(3, 1)
attacked = clean.clone()
for _ in range(10):
    attacked.requires_grad_()
    (gradient,) = torch.autograd.grad(decide(attacked).sum(), attacked)
    attacked = attacked.detach() - MOST / 4 * gradient.sign()
    attacked = torch.minimum(torch.maximum(attacked, clean - MOST), clean + MOST).clamp(0, 1)
noise = torch.randint(0, 2, clean.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
kinds = {"sound": clean, "attacked": attacked, "random noise": (clean + MOST * noise).clamp(0, 1)}

# %%
# After it the classifier is deceived, and the detector is not. The same change at random leaves
# the classifier as it was:

margins = {}
for name, x in kinds.items():
    called = classifier.predict(detector.embed(x))
    decisions = detector.decision_function(x)
    margins[name] = decisions / detector.calibration_scores_.std()
    print(
        f"{name}: the classifier calls {np.sum(called == 1)} sound, the detector "
        f"{np.sum(decisions >= 0)}"
    )

# %%

figure, axes = plt.subplots(
    1, 4, figsize=(12, 3.3), layout="constrained", width_ratios=(1, 1, 1, 1.4)
)
change = 0.5 + (attacked - clean)[0] / (2 * MOST)
pictures = {"sound": clean[0], "attacked": attacked[0], "the change, enlarged": change}
for ax, (title, picture) in zip(axes, pictures.items(), strict=False):
    ax.imshow(picture.movedim(0, 2).clamp(0, 1).numpy())
    ax.set(title=title, xticks=[], yticks=[])
for i, values in enumerate(margins.values()):
    axes[3].plot(values, np.full(len(values), i), "o", alpha=0.5)
axes[3].set_yticks(range(len(margins)), [*margins])
axes[3].axvline(0, color="tab:red", linestyle="--", label="threshold")
axes[3].set(xlabel="distance from the threshold,\nin deviations of the shots")
axes[3].invert_yaxis()
axes[3].legend()
plt.show()

# %%
# .. [1] Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018,
#    arXiv 1706.06083. Attacks told by the density of activations: "DAAIN: Detection of Anomalous
#    and Adversarial Input using Normalizing Flows", arXiv 2105.14638.
