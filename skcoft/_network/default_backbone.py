"""The name of the default backbone, apart from the code that needs torch."""

DEFAULT_BACKBONE = "tf_efficientnet_lite2"
