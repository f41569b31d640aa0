r"""Loss functions of COFT-AD, as pure functions of embeddings.

.. math::

    L = L_{\mathrm{Con}} + \lambda_{\mathrm{PP}}\,L_{\mathrm{PP}}
    + \lambda_{\mathrm{NP}}\,L_{\mathrm{NP}}

The objective is that of Liao et al. (IEEE TIP 2024, arXiv 2402.18998). Each function states the
exact form of its term, which is this package's interpretation. All functions L2-normalise the rows
of their inputs, so embeddings of any scale may be passed. ``shots`` says which shot (training
image) every row comes from. Two views of one shot are never negatives of each other, even if a
batch holds the same shot several times.
"""

import torch
import torch.nn.functional as F

__all__ = [
    "info_nce_loss",
    "mean_shifted_loss",
    "negative_pair_loss",
    "positive_pair_loss",
    "simsiam_loss",
]


def info_nce_loss(
    first: torch.Tensor, second: torch.Tensor, shots: torch.Tensor, *, temperature: float = 0.25
) -> torch.Tensor:
    r"""Push views of different shots apart, and views of one image together (InfoNCE).

    Let :math:`z_i` be the normalised rows of both views, :math:`z_i^+` the other view in the same
    row and :math:`s(i)` the shot of :math:`i`. The loss is the mean over all 2n views of

    .. math::

        -\log \frac{\exp(z_i \cdot z_i^+ / \tau)}
        {\exp(z_i \cdot z_i^+ / \tau) + \sum_{j : s(j) \ne s(i)} \exp(z_i \cdot z_j / \tau)}

    Other views of the same shot are left out. The loss is 0 if there is only one shot.

    Parameters
    ----------
    first, second : tensor of shape (n, d)
        Embeddings of two views. Row i of both comes from the same image.
    shots : tensor of int, shape (n,)
        The shot that each row comes from.
    temperature : float, default=0.25
        :math:`\tau`. A smaller value gives more weight to the nearest negatives.

    Returns
    -------
    tensor of shape ()
        The loss, at least 0.

    References
    ----------
    .. [1] van den Oord et al., "Representation Learning with Contrastive Predictive Coding",
       arXiv 1807.03748.

    Examples
    --------
    >>> import torch
    >>> from skcoft.losses import info_nce_loss
    >>> z = torch.eye(2)
    >>> round(info_nce_loss(z, z, torch.tensor([0, 1]), temperature=1.0).item(), 3)
    0.551
    >>> info_nce_loss(z, z, torch.tensor([0, 0])).item()
    0.0
    """
    first, second = F.normalize(first, dim=1), F.normalize(second, dim=1)
    z, z_positive = torch.cat([first, second]), torch.cat([second, first])
    s = torch.cat([shots, shots])
    positive = (z * z_positive).sum(1, keepdim=True) / temperature
    others = (z @ z.T / temperature).masked_fill(s[:, None] == s, -torch.inf)
    return (torch.logsumexp(torch.cat([positive, others], 1), 1) - positive[:, 0]).mean()


def mean_shifted_loss(
    first: torch.Tensor,
    second: torch.Tensor,
    shots: torch.Tensor,
    center: torch.Tensor,
    *,
    temperature: float = 0.25,
) -> torch.Tensor:
    r"""Apply InfoNCE to directions from a fixed center, so that shots spread around it.

    This is :func:`info_nce_loss` of :math:`(h_i - c) / \lVert h_i - c \rVert`, where :math:`h_i`
    are the normalised rows. Plain InfoNCE spreads the shots over the whole sphere and so loosens
    the cluster of normal images. The shift preserves the pre-trained geometry [1]_.

    Parameters
    ----------
    first, second : tensor of shape (n, d)
        Embeddings of two views. Row i of both comes from the same image.
    shots : tensor of int, shape (n,)
        The shot that each row comes from.
    center : tensor of shape (d,)
        Center c of the embeddings of the shots before fine-tuning. It is not normalised.
    temperature : float, default=0.25
        As in :func:`info_nce_loss`.

    Returns
    -------
    tensor of shape ()
        The loss, at least 0.

    References
    ----------
    .. [1] Reiss and Hoshen, "Mean-Shifted Contrastive Loss for Anomaly Detection",
       arXiv 2106.03844.

    Examples
    --------
    >>> import torch
    >>> from skcoft.losses import mean_shifted_loss
    >>> h = torch.tensor([[1.0, 0.1], [1.0, -0.1]])
    >>> center = torch.tensor([1.0, 0.0])
    >>> loss = mean_shifted_loss(h, h, torch.tensor([0, 1]), center, temperature=1.0)
    >>> round(loss.item(), 2)
    0.24
    """
    first, second = F.normalize(first, dim=1) - center, F.normalize(second, dim=1) - center
    return info_nce_loss(first, second, shots, temperature=temperature)


def simsiam_loss(
    first: torch.Tensor,
    second: torch.Tensor,
    first_predicted: torch.Tensor,
    second_predicted: torch.Tensor,
) -> torch.Tensor:
    r"""Predict one view from the other, without negatives (SimSiam).

    The loss is the mean over rows of

    .. math:: -\tfrac12 \left[\cos(p_1, \mathrm{sg}(z_2)) + \cos(p_2, \mathrm{sg}(z_1))\right]

    where sg stops the gradient of the target, which keeps the embeddings from collapsing [1]_.

    Parameters
    ----------
    first, second : tensor of shape (n, d)
        Embeddings z of two views.
    first_predicted, second_predicted : tensor of shape (n, d)
        Outputs p of the prediction head for ``first`` and ``second``.

    Returns
    -------
    tensor of shape ()
        The loss, between -1 and 1.

    References
    ----------
    .. [1] Chen and He, "Exploring Simple Siamese Representation Learning", arXiv 2011.10566.

    Examples
    --------
    >>> import torch
    >>> from skcoft.losses import simsiam_loss
    >>> z = torch.eye(3)
    >>> simsiam_loss(z, z, z, z).item()
    -1.0
    """
    forward = F.cosine_similarity(first_predicted, second.detach()).mean()
    backward = F.cosine_similarity(second_predicted, first.detach()).mean()
    return -(forward + backward) / 2


def positive_pair_loss(embeddings: torch.Tensor, shots: torch.Tensor) -> torch.Tensor:
    r"""Pull different shots together (cross-instance positive pairs).

    The loss is the mean of :math:`1 - \cos(h_i, h_j)` over all pairs with
    :math:`s(i) \ne s(j)`, or 0 if there is no such pair. All normal images are one class, so they
    should form one tight cluster.

    Parameters
    ----------
    embeddings : tensor of shape (n, d)
        Embeddings of views of the shots.
    shots : tensor of int, shape (n,)
        The shot that each row comes from.

    Returns
    -------
    tensor of shape ()
        The loss, between 0 and 2.

    Examples
    --------
    >>> import torch
    >>> from skcoft.losses import positive_pair_loss
    >>> positive_pair_loss(torch.eye(2), torch.tensor([0, 1])).item()
    1.0
    """
    h = F.normalize(embeddings, dim=1)
    different = (shots[:, None] != shots).to(h)
    return ((1 - h @ h.T) * different).sum() / different.sum().clamp_min(1)


def negative_pair_loss(
    embeddings: torch.Tensor, anomalies: torch.Tensor, *, margin: float = 0.0
) -> torch.Tensor:
    r"""Push anomalies away from the shots (negative pairs).

    The loss is the mean of :math:`\max(0, \cos(h_i, h_a) - m)` over all pairs.

    Parameters
    ----------
    embeddings : tensor of shape (n, d)
        Embeddings of views of the shots.
    anomalies : tensor of shape (m, d)
        Embeddings of synthesised (or labelled) anomalies.
    margin : float, default=0.0
        Cosine m below which a pair has no influence. -1 gives the plain cosine plus 1.

    Returns
    -------
    tensor of shape ()
        The loss, at least 0.

    Examples
    --------
    >>> import torch
    >>> from skcoft.losses import negative_pair_loss
    >>> negative_pair_loss(torch.eye(2), torch.tensor([[1.0, 0.0]])).item()
    0.5
    """
    h, a = F.normalize(embeddings, dim=1), F.normalize(anomalies, dim=1)
    return (h @ a.T - margin).clamp_min(0).mean()
