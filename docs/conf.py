"""The documentation site: `sphinx-build -W docs docs/_build/html`, or `nox -s docs`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE / "_build"
sys.path[:0] = [str(HERE.parent), str(HERE / "extensions")]

# Read when Keras and TensorFlow are first imported; the site's runs have a cache of their own.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["FEATX_CACHE"] = str(BUILD / "cache")
os.environ["FEATX_NETWORKS"] = str(BUILD / "networks")

import featx  # noqa: E402

project = "featx"
author = "The featx developers"
copyright = "The featx developers, Apache-2.0"  # noqa: A001
version = release = featx.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
    "sphinx_copybutton",
    "sphinx_design",
    "site_pages",
    "site_links",
]
exclude_patterns = ["_build", "extensions", "examples", "**.ipynb"]
myst_enable_extensions = ["colon_fence", "deflist", "substitution"]
myst_heading_anchors = 4

autosummary_generate = True
autosummary_generate_overwrite = True
autodoc_typehints = "none"  # the docstrings say it in words, with shapes
autodoc_default_options = {
    "members": True,
    # scikit-learn's, with references into its own site
    "exclude-members": "set_fit_request, set_score_request, set_predict_request, "
    "set_predict_proba_request",
}
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
templates_path = ["_templates"]

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "generated/gallery",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "remove_config_comments": True,
    "first_notebook_cell": "# pip install 'featx[export,serve]' matplotlib",
    "matplotlib_animations": False,
    "nested_sections": False,
    "write_computation_times": False,  # a page with scripts from elsewhere
}
suppress_warnings = [
    "config.cache",  # sphinx-gallery's options cannot be pickled
]

html_theme = "pydata_sphinx_theme"
html_title = "featx"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "secondary_sidebar_items": ["page-toc"],
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"index": []}
