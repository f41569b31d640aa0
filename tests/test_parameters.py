from skcoft import COFTDetector, COFTEmbedder


def test_defaults_are_those_of_the_published_figures():
    """A change of a default changes every figure, so it must be made on purpose."""
    embedder = {
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
    detector = {
        "n_views": "auto",
        "density": "kde",
        "local": True,
        "multiscale": True,
        "prompts": None,
        "contamination": "auto",
        "on_error": "raise",
        "memory": None,
    }
    assert COFTEmbedder().get_params() == embedder
    assert COFTDetector().get_params() == embedder | detector
