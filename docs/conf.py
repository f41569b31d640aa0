"""Sphinx settings."""

import skcoft

project = "skcoft"
author = "The skcoft developers"
copyright = "2026, the skcoft developers"
version = release = skcoft.__version__

extensions = [
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
html_theme = "pydata_sphinx_theme"
html_title = f"skcoft {version}"
_childless = ["index", "user_guide", "embedded_backbone", "accuracy", "many_machines"]
html_sidebars = {page: [] for page in _childless}  # room for wide tables
autosummary_generate = True
numpydoc_show_class_members = False
autodoc_default_options = {"members": True}
sphinx_gallery_conf = {"examples_dirs": "../examples", "gallery_dirs": "auto_examples"}
