"""Sphinx settings."""

import inspect
import re
import sys
from pathlib import Path

from docutils.nodes import SkipNode
from latex2mathml.converter import convert
from sphinx.util import logging

import skcoft

DOCS = Path(__file__).resolve().parent
sys.path.append(str(DOCS.parent / "benchmarks"))

project = "skcoft"
author = "The skcoft developers"
copyright = "2026, the skcoft developers"
version = release = skcoft.__version__

extensions = [
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "_figures", "inventories"]
templates_path = ["_templates"]
html_theme = "pydata_sphinx_theme"
html_title = f"skcoft {version}"
html_theme_options = {
    "header_links_before_dropdown": 6,
    "show_toc_level": 2,
    "secondary_sidebar_items": {"**": ["page-toc"], "index": [], "user_guide": []},
}
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["skcoft.css"]
html_math_renderer = "mathml"
_childless = ["index", "faq", "embedded_backbone", "accuracy", "all_results"]
html_sidebars = {page: [] for page in _childless}  # room for wide tables
toc_object_entries_show_parents = "hide"
autosummary_generate = True
autodoc_typehints = "none"  # docstrings say what types mean
autodoc_mock_imports = ["pyod"]  # the base class of skcoft.pyod, which needs it
numpydoc_show_class_members = False  # _templates/autosummary/class.rst shows them
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "backreferences_dir": "generated/backreferences",  # asked for by the minigallery in index.rst
}

# What our pages mention of scikit-learn, in Sphinx's plain inventory format (version 1): a build
# without a network resolves the same references as one with it. Another name is another line.
intersphinx_mapping = {"sklearn": ("https://scikit-learn.org/stable/", "inventories/sklearn.txt")}
nitpicky = True
nitpick_ignore = [  # labels in scikit-learn's own docstring of set_output
    ("std:ref", "df_output_transform"),
    ("std:ref", "sphx_glr_auto_examples_miscellaneous_plot_set_output.py"),
]


def _public_names():
    """Yield the public classes, functions and methods, less scikit-learn's metadata plumbing."""
    modules = [getattr(skcoft, name) for name in skcoft.__all__ if name.islower()]
    for module in (skcoft, *modules):
        for name, value in [(n, getattr(module, n)) for n in module.__all__]:
            if inspect.isclass(value) or inspect.isfunction(value):
                yield f"{module.__name__}.{name}"
            if inspect.isclass(value):
                for method, _ in inspect.getmembers(value, inspect.isroutine):
                    if method == "__call__" or not method.startswith("_"):
                        if method != "get_metadata_routing" and not method.endswith("_request"):
                            yield f"{module.__name__}.{name}.{method}"


def _check_public_names(app, env):
    for name in _public_names():
        if name not in env.get_domain("py").objects:
            logging.getLogger(__name__).warning("%s is described on no page", name)


def _mathml(display):
    """Formulas as MathML, which browsers draw by themselves: no network, no JavaScript."""

    def visit(self, node):
        converted = convert(re.sub(r"\\log\b", r"\\,\\log\\,", node.astext()), display=display)
        if "\\" in converted:
            logging.getLogger(__name__).warning("unknown LaTeX", location=node)
        if display == "block":
            converted = f'<div class="formula">{converted}</div>'
        self.body.append(converted)
        raise SkipNode

    return visit, None


def _draw_accuracy(app):
    """Draw the pictures and tables that accuracy.rst includes, from the measured lines."""
    from draw import FOLDER, write_sections

    write_sections(FOLDER, DOCS / "_figures", prefix="_figures/")


def setup(app):
    app.connect("builder-inited", _draw_accuracy)
    app.add_html_math_renderer("mathml", _mathml("inline"), _mathml("block"))
    app.connect("env-check-consistency", _check_public_names)
