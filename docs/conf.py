"""Sphinx settings."""

import inspect
import re

from docutils.nodes import SkipNode
from latex2mathml.converter import convert
from sphinx.util import logging

import skcoft

project = "skcoft"
author = "The skcoft developers"
copyright = "2026, the skcoft developers"
version = release = skcoft.__version__

extensions = [
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "inventories"]
templates_path = ["_templates"]
html_theme = "pydata_sphinx_theme"
html_title = f"skcoft {version}"
html_theme_options = {"header_links_before_dropdown": 6, "show_toc_level": 2}
html_show_sourcelink = False
html_math_renderer = "mathml"
_childless = ["index", "user_guide", "embedded_backbone", "accuracy", "many_machines"]
html_sidebars = {page: [] for page in _childless}  # room for wide tables
autosummary_generate = True
numpydoc_show_class_members = False  # _templates/autosummary/class.rst shows them
sphinx_gallery_conf = {"examples_dirs": "../examples", "gallery_dirs": "auto_examples"}

# What our pages mention of scikit-learn, in Sphinx's plain inventory format (version 1), so that
# a build without a network resolves the same references as one with it. Another name: another line.
intersphinx_mapping = {"sklearn": ("https://scikit-learn.org/stable/", "inventories/sklearn.txt")}
nitpicky = True
nitpick_ignore = [  # labels in scikit-learn's own docstring of set_output
    ("std:ref", "df_output_transform"),
    ("std:ref", "sphx_glr_auto_examples_miscellaneous_plot_set_output.py"),
]

_NOT_SHOWN = "get_metadata_routing", "_request"  # scikit-learn's plumbing, on every estimator


def _check_public_names(app, env):
    """Warn of public classes, functions and methods that no page describes."""
    described = env.get_domain("py").objects
    for module in (skcoft, *filter(inspect.ismodule, map(skcoft.__dict__.get, skcoft.__all__))):
        for name in module.__all__:
            value, names = getattr(module, name), []
            if inspect.isclass(value):
                names = [n for n, _ in inspect.getmembers(value, inspect.isfunction)]
            for path in [name, *(f"{name}.{n}" for n in names if n[0] != "_")]:
                full = f"{module.__name__}.{path}"
                if not (inspect.ismodule(value) or full in described or path.endswith(_NOT_SHOWN)):
                    logging.getLogger(__name__).warning("%s is on no page", full)


def _mathml(display):
    """Formulas as MathML, which browsers draw by themselves: no network, no JavaScript."""

    def visit(self, node):
        converted = convert(re.sub(r"\\log\b", r"\\,\\log\\,", node.astext()), display=display)
        if "\\" in converted:
            logging.getLogger(__name__).warning("unknown LaTeX", location=node)
        if display == "block":
            converted = f'<div style="margin: 1rem 0">{converted}</div>'
        self.body.append(converted)
        raise SkipNode

    return visit, None


def setup(app):
    app.add_html_math_renderer("mathml", _mathml("inline"), _mathml("block"))
    app.connect("env-check-consistency", _check_public_names)
