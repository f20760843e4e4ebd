"""How Sphinx makes the book: `make book`."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE / "_ext")]  # this course, not one that is installed

import lessons  # noqa: E402
import reference  # noqa: E402

from tito.course import Course  # noqa: E402

os.environ |= {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(ROOT),
    "TINYTORCH_LESSONS": str(ROOT / "modules"),
}
course = Course.load(ROOT)
lessons.write(course, HERE / "lessons")
lessons.write_if_changed(HERE / "api" / "generated" / "doors.md", reference.doors(course))
del course  # Sphinx keeps what it finds here

project = "TinyTorch"
author = "The authors of TinyTorch"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "reference",
]
exclude_patterns = ["_build", "_ext", "_templates"]
templates_path = ["_templates"]
highlight_language = "text"
smartquotes = False
add_module_names = False
python_use_unqualified_type_names = True
autodoc_preserve_defaults = True
suppress_warnings = ["ref.python"]  # an annotation such as `bytes`, which several classes have as an attribute too
toc_object_entries_show_parents = "hide"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE / "_build" / "cache")
nb_execution_in_temp = True
nb_execution_show_tb = True  # a cell that raises is a warning, and so an error, once all pages are made
nb_execution_timeout = 300
nb_merge_streams = True
nb_render_image_options = {"alt": "What the code above draws."}
nb_ipywidgets_js = {}  # nothing is fetched from elsewhere

html_theme = "sphinx_book_theme"
html_title = "TinyTorch"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_js_files = ["book.js"]
html_copy_source = False
html_show_sphinx = False
html_use_index = html_domain_indices = False  # the search and the page of the doors do better
html_context = {"default_mode": "auto"}  # light or dark as the reader's machine, until the switch is used
html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_toc_level": 2,
    "home_page_in_toc": True,
    "navbar_persistent": [],
    "footer_content_items": ["extra-footer"],
    "extra_footer": "<p>Times and sizes in the lessons are those of the machine that made this book.</p>",
}
