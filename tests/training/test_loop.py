import math
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn
import torch
from conftest import TinyNet
from numpy.testing import assert_array_equal

from skcoft import COFTDetector, COFTEmbedder
from skcoft._input.images import Images
from skcoft._input.sizing import Sizing
from skcoft._network.encoder import Encoder
from skcoft._training import batches as batches_module
from skcoft._training import loop as finetune
from skcoft._training.batches import draw_shots
from skcoft._training.contrastive import MeanShifted, SimSiam
from skcoft._training.loop import build_optimizer, make_batches
from skcoft._training.objective import Objective
from skcoft.losses import mean_shifted_loss, negative_pair_loss, positive_pair_loss

IMAGES = np.random.default_rng(0).random((6, 16, 16, 3)).astype(np.float32)
FAMILIES = ["mean_shifted", "infonce", "simsiam"]


def embedder(**params):
    defaults = dict(backbone=TinyNet(), max_iter=4, learning_rate=0.01, random_state=0)
    return COFTEmbedder(**{**defaults, **params})


@pytest.mark.parametrize("contrastive", FAMILIES)
@pytest.mark.parametrize("shots", [1, 2, 6])
def test_history_holds_every_term(contrastive, shots):
    fitted = embedder(contrastive=contrastive, positive_weight=2, negative_weight=0.5)
    fitted.fit(IMAGES[:shots])
    history = fitted.history_
    assert set(history) == {"loss", "contrastive", "positive", "negative"}
    assert fitted.n_iter_ == 4 and all(len(v) == 4 for v in history.values())
    total = history["contrastive"] + 2 * history["positive"] + 0.5 * history["negative"]
    np.testing.assert_allclose(history["loss"], total, rtol=1e-5, atol=1e-6)
    assert (history["negative"] > 0).all()
    if shots == 1:
        assert (history["positive"] == 0).all()
        assert (contrastive == "simsiam") == (history["contrastive"] != 0).all()


@pytest.mark.parametrize("contrastive", FAMILIES)
def test_contrastive_term_falls(contrastive):
    rates = {"mean_shifted": 0.01, "infonce": 0.001, "simsiam": 0.01}
    fitted = embedder(contrastive=contrastive, positive_weight=0, negatives=None, max_iter=60)
    fitted.set_params(learning_rate=rates[contrastive])
    loss = fitted.fit(IMAGES).history_["contrastive"]
    assert loss[-10:].mean() < loss[:10].mean()


def test_positive_pairs_make_one_tight_cluster():
    def spread(weight):
        fitted = embedder(positive_weight=weight, negatives=None, max_iter=40)
        h = fitted.fit_transform(IMAGES)
        return 1 - (h @ h.T).mean()

    assert spread(10) < spread(0)


@pytest.mark.parametrize(("shots", "weight"), [(2, 0.25), (6, 0.75), (20, 2)])
def test_automatic_weight_of_positive_pairs_goes_by_the_shots(shots, weight):
    images = np.random.default_rng(1).random((20, 16, 16, 3))[:shots]
    history = embedder(negatives=None).fit(images).history_
    total = history["contrastive"] + weight * history["positive"]
    np.testing.assert_allclose(history["loss"], total, rtol=1e-5, atol=1e-6)
    by_label = embedder(negatives=None).fit(
        np.concatenate([images, IMAGES]), [1] * shots + [-1] * 6
    )
    assert_array_equal(by_label.history_["loss"], history["loss"])


def test_negative_pairs_push_anomalies_away():
    def cosine(weight):
        fitted = embedder(negative_weight=weight, negatives="noise_texture", max_iter=40)
        return fitted.fit(IMAGES).history_["negative"][-5:].mean()

    assert cosine(10) < cosine(1e-6)


def test_no_iterations_is_the_frozen_backbone():
    fitted = embedder(max_iter=0).fit(IMAGES)
    assert fitted.n_iter_ == 0 and fitted.history_ == {}
    own, given = fitted.network_.body.state_dict(), TinyNet().state_dict()
    assert all(torch.equal(own[k], given[k]) for k in given)


def test_batch_norm_keeps_its_statistics_and_trains_its_affine_part():
    fitted = embedder(learning_rate=0.1).fit(IMAGES)
    own, given = fitted.network_.body.layers[1], TinyNet().layers[1]
    assert torch.equal(own.running_mean, given.running_mean)
    assert torch.equal(own.running_var, given.running_var)
    assert not torch.equal(own.weight, given.weight)
    assert not fitted.network_.training


def test_recomputed_activations_give_the_same_fit(monkeypatch):
    kept = embedder(negative_weight=1).fit(IMAGES)
    calls = []

    def spy(function, *args, **options):
        calls.append(len(args[0]))
        return torch.utils.checkpoint.checkpoint(function, *args, **options)

    monkeypatch.setattr(batches_module, "checkpoint", spy)
    with sklearn.config_context(working_memory=0):
        again = embedder(negative_weight=1).fit(IMAGES)
    assert calls and max(calls) == 4
    np.testing.assert_allclose(again.history_["loss"], kept.history_["loss"], rtol=1e-5)
    np.testing.assert_allclose(again.transform(IMAGES), kept.transform(IMAGES), atol=1e-5)


def test_an_interrupt_ends_a_fit_and_leaves_the_earlier_one(monkeypatch):
    calls = []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return draw_shots(*args)

    fitted = embedder(max_iter=9).fit(IMAGES)
    before, history = fitted.transform(IMAGES), fitted.history_
    monkeypatch.setattr(batches_module, "draw_shots", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fitted.fit(IMAGES[:4])
    assert len(calls) == 3 and fitted.history_ is history
    assert_array_equal(fitted.transform(IMAGES), before)


def test_what_is_interrupted_is_not_stored(monkeypatch, tmp_path):
    """The next fit starts anew, and ends where it would have without the interruption."""
    detector = COFTDetector(TinyNet(), max_iter=4, random_state=0, memory=tmp_path)
    draws = []

    def interrupted(*args):
        draws.append(1)
        if len(draws) == 2:
            raise KeyboardInterrupt
        return draw_shots(*args)

    monkeypatch.setattr(batches_module, "draw_shots", interrupted)
    with pytest.raises(KeyboardInterrupt):
        detector.fit(IMAGES)
    detector.fit(IMAGES)
    assert detector.n_iter_ == 4 and len(draws) == 2 + 4
    expected = COFTDetector(TinyNet(), max_iter=4, random_state=0).fit(IMAGES)
    assert_array_equal(detector.score_samples(IMAGES), expected.score_samples(IMAGES))


def test_loss_that_is_not_finite_stops():
    fitted = embedder(learning_rate=1e30, max_iter=20)
    with pytest.raises(FloatingPointError, match=r"at iteration \d+ of 20. Lower learning_rate"):
        fitted.fit(IMAGES)
    assert not hasattr(fitted, "network_")


def test_the_last_step_is_checked_too():
    """A loss is finite before a step that ruins the weights."""
    with pytest.raises(FloatingPointError, match="in the last of 1 iterations. Lower learning"):
        embedder(learning_rate=1e30, max_iter=1).fit(IMAGES)


def test_a_loss_that_is_not_finite_at_first_is_not_blamed_on_the_rate():
    with pytest.raises(FloatingPointError, match="before the first step: raise temperature"):
        embedder(augmentation=lambda image: image * torch.nan).fit(IMAGES)


def as_images(array):
    return Images(torch.from_numpy(array).permute(0, 3, 1, 2))


class Shown(torch.nn.Module):
    """A network of which only what it says of itself counts."""

    input_type, view_options = "images", {}

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))

    def make_views(self):
        return lambda images, generator: images + 0.5

    def make_synthesizer(self, name):
        return lambda images, generator: images + 10


def batches(**params):
    """What one iteration draws of 6 shots whose values are their numbers; and load, shots."""
    numbers = torch.arange(6.0)[:, None, None, None]
    anomalies = params.pop("anomalies", None)
    encoder = Encoder(Shown(), Sizing((1, 1)), "cpu", None, 0)
    settings = COFTEmbedder(**params)
    draw = make_batches(encoder, lambda index: numbers[index], np.arange(6), anomalies, settings)
    return draw(torch.Generator().manual_seed(0))


def test_a_batch_is_two_views_of_each_shot_and_an_anomaly_of_a_third():
    shots, (first, second, anomalies) = batches(batch_size=8)
    assert len(shots) == 8
    for views in (first, second):
        assert_array_equal(views.flatten(), shots + 0.5)
    assert_array_equal(anomalies.flatten(), shots + 0.5 + 10)  # made of a view, not of the shot


def test_each_view_is_drawn_anew():
    fitted = embedder(max_iter=0).fit(IMAGES)
    load = fitted.encoders_[0].load(as_images(IMAGES))
    draw = make_batches(fitted.encoders_[0], load, np.arange(6), None, COFTEmbedder())
    _, batch = draw(torch.Generator().manual_seed(0))
    assert len({views.numpy().tobytes() for views in batch}) == 3


def test_labelled_anomalies_of_a_batch_are_views():
    anomalies = as_images(np.full((2, 1, 1, 3), 0.25, np.float32))
    _, (_, _, drawn) = batches(anomalies=anomalies, negatives="labelled")
    assert_array_equal(drawn, np.full((8, 3, 1, 1), 0.75))


@pytest.mark.parametrize("params", [{"negatives": None}, {"negative_weight": 0}])
def test_a_batch_without_negatives_has_two_views(params):
    assert len(batches(**params)[1]) == 2


def test_objective_adds_weighted_terms_of_both_views():
    generator = torch.Generator().manual_seed(0)
    h = torch.nn.functional.normalize(torch.randn(9, 4, generator=generator), dim=1)
    shots, center = torch.tensor([0, 1, 1]), torch.full((4,), 0.1)
    terms = Objective(MeanShifted(center, 0.25), 3.0, 0.7)(h, shots)
    assert set(terms) == {"loss", "contrastive", "positive", "negative"}
    contrastive = mean_shifted_loss(h[:3], h[3:6], shots, center, temperature=0.25)
    positive = positive_pair_loss(h[:6], torch.tensor([0, 1, 1, 0, 1, 1]))
    negative = negative_pair_loss(h[:6], h[6:])
    assert terms["contrastive"] == contrastive and terms["positive"] == positive
    assert terms["negative"] == negative
    assert terms["loss"].item() == pytest.approx(
        (contrastive + 3 * positive + 0.7 * negative).item()
    )
    assert Objective(MeanShifted(center, 0.25), 3.0, 0.7)(h[:6], shots)["negative"] == 0


@pytest.mark.parametrize("kind, rate", [("images", 2e-5), ("tabular", 1e-3)])
def test_automatic_learning_rate_goes_by_the_kind(kind, rate):
    network = Shown()
    network.input_type = kind
    objective = Objective(MeanShifted(torch.zeros(2), 1.0), 1.0, 1.0)
    optimizer, _ = build_optimizer(network, objective, COFTEmbedder())
    assert optimizer.param_groups[0]["initial_lr"] == rate


def test_heads_learn_ten_times_as_fast_and_rates_follow_a_half_cosine():
    network, objective = Shown(), Objective(SimSiam(torch.zeros(2), 1.0), 1.0, 1.0)
    settings = COFTEmbedder(learning_rate=0.5, max_iter=8)
    optimizer, schedule = build_optimizer(network, objective, settings)
    assert type(optimizer) is torch.optim.AdamW
    assert [group["weight_decay"] for group in optimizer.param_groups] == [1e-4, 1e-4]
    assert optimizer.param_groups[0]["params"] == list(network.parameters())
    assert len(optimizer.param_groups[1]["params"]) == len(list(objective.parameters())) == 8
    for step in range(8):
        factor = 0.5 * (1 + math.cos(math.pi * step / 8))
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([0.5 * factor, 5 * factor])
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0)


def test_optimizer_steps_once_an_iteration_along_the_schedule(monkeypatch):
    """The rates that training really ran at."""
    rates = []
    step = torch.optim.AdamW.step

    def spy(self, *args):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    embedder(max_iter=4, learning_rate=0.01).fit(IMAGES)
    assert rates == pytest.approx([0.01 * f for f in (1, 0.8535534, 0.5, 0.1464466)])


def test_center_is_that_of_the_frozen_embeddings(monkeypatch):
    seen = []
    init = MeanShifted.__init__

    def spy(self, center, temperature):
        seen.append((center, temperature))
        init(self, center, temperature)

    monkeypatch.setattr(MeanShifted, "__init__", spy)
    embedder(max_iter=1).fit(IMAGES)
    center, temperature = seen[0]
    frozen = embedder(max_iter=0).fit_transform(IMAGES)
    np.testing.assert_allclose(center, frozen.mean(axis=0), atol=1e-6)
    assert temperature == 0.25
    embedder(max_iter=1).fit(IMAGES, groups=[0, 0, 0, 1, 2, 3, 4, 5][: len(IMAGES)])
    shots = np.concatenate([frozen[:3].mean(axis=0, keepdims=True), frozen[3:]])
    np.testing.assert_allclose(seen[1][0], shots.mean(axis=0), atol=1e-6)  # each counts as much


def test_heads_are_seeded_and_global_state_is_left_alone():
    def first_loss(seed):
        fitted = embedder(contrastive="infonce", random_state=seed, augmentation=lambda x: x)
        return fitted.fit(IMAGES).history_["contrastive"][0]

    state = torch.get_rng_state()
    assert first_loss(0) == first_loss(0) != first_loss(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_defaults_of_the_recipe():
    """Each on purpose: a change here is a change of every figure."""
    shared = {
        "backbone": "tf_efficientnet_lite2",
        "weights": "pretrained",
        "image_size": None,
        "max_pixels": None,
        "image_shape": None,
        "mask": None,
        "bit_depth": None,
        "max_iter": 20,
        "batch_size": 8,
        "learning_rate": "auto",
        "contrastive": "mean_shifted",
        "temperature": 0.25,
        "positive_weight": "auto",
        "negative_weight": 0.1,
        "negatives": "cutpaste",
        "augmentation": None,
        "device": None,
        "n_jobs": None,
        "random_state": None,
        "verbose": 0,
    }
    own = {
        "n_views": "auto",
        "density": "kde",
        "local": True,
        "multiscale": True,
        "prompts": None,
        "contamination": "auto",
        "on_error": "raise",
        "memory": None,
    }
    assert COFTEmbedder().get_params() == shared
    assert COFTDetector().get_params() == shared | own


def test_activations_of_some_images_of_a_large_batch_are_kept(monkeypatch):
    calls = []
    monkeypatch.setattr(
        batches_module,
        "checkpoint",
        lambda function, part, **options: calls.append(1) or function(part),
    )
    embedder(max_iter=1).fit(IMAGES)
    assert not calls
    for kept, count in ((24, 0), (23, 1), (12, 3), (3, 6)):
        calls.clear()
        monkeypatch.setattr(finetune, "count_kept", lambda *args, kept=kept: kept)
        embedder(max_iter=1).fit(IMAGES)
        assert len(calls) == count  # of 24 images, 4 at a time


def test_activations_fill_the_working_memory():
    weight = torch.ones(3, 4, 4, requires_grad=True)
    encoder = SimpleNamespace(device="cpu", network=lambda images: (images * weight).exp())
    image = torch.zeros(1, 3, 4, 4)
    held = 2 * 4 * image.numel()  # the image and its exponential
    for mebibytes in (0, 1, 1024):
        with sklearn.config_context(working_memory=mebibytes):
            assert finetune.count_kept(encoder, image) == mebibytes * 2**20 // held
    encoder.device = "cuda"
    assert finetune.count_kept(encoder, image) == np.inf


def test_progress_only_where_asked(capsys):
    embedder(verbose=0).fit(IMAGES)
    silent = capsys.readouterr()
    assert silent.out == silent.err == ""
    embedder(verbose=1).fit(IMAGES)
    assert "fine-tuning: 100%" in capsys.readouterr().err


def test_shots_are_drawn_evenly():
    shots = draw_shots(np.arange(4), 32, torch.Generator().manual_seed(0))
    assert torch.bincount(shots).tolist() == [8] * 4
    assert len(set(draw_shots(np.arange(20), 8, torch.Generator().manual_seed(0)).tolist())) == 8


def test_nothing_to_train():
    frozen = TinyNet().requires_grad_(False)
    with pytest.raises(ValueError, match=r"requires a gradient; pass max_iter=0"):
        embedder(backbone=frozen).fit(IMAGES)
    assert np.isfinite(embedder(backbone=frozen, max_iter=0).fit_transform(IMAGES)).all()


@pytest.mark.parametrize("params", [{"negatives": None}, {"negative_weight": 0}])
def test_one_image_and_nothing_to_contrast(params):
    with pytest.raises(ValueError, match="one shot .* nothing to contrast it with: negatives="):
        embedder(**params).fit(IMAGES[:1])
    embedder(**params, max_iter=0).fit(IMAGES[:1])
    embedder(**params, contrastive="simsiam").fit(IMAGES[:1])


def test_one_image_is_left_to_the_frozen_backbone_unless_asked_for():
    one = IMAGES[:1]
    fitted = embedder(learning_rate="auto").fit(one)
    assert fitted.n_iter_ == 0 and fitted.history_ == {}
    assert_array_equal(fitted.transform(IMAGES), embedder(max_iter=0).fit(one).transform(IMAGES))
    assert embedder(learning_rate="auto", negatives=None).fit(one).n_iter_ == 0
    assert embedder(learning_rate="auto").fit(IMAGES[:2]).n_iter_ == 4
    assert embedder(learning_rate=2e-5).fit(one).n_iter_ == 4
    labelled = embedder(learning_rate="auto", negatives="labelled")
    assert labelled.fit(IMAGES[:3], [1, -1, -1]).n_iter_ == 4
