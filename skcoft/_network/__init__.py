"""Backbones, their weights, and the encoder that maps images to embeddings."""
