"""The site: python -m sphinx -W --keep-going -b html docs OUT.

JAXLUNG_NOTEBOOKS=run executes the notebooks, whose outputs are then shown.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "jaxlung"
html_title = "jaxlung"
copyright = "the jaxlung authors, Apache-2.0"  # noqa: A001

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "myst_nb",
    "sphinx_copybutton",
    "generated",  # docs/_ext: command line, settings and Python from the code
    "root_pages",  # docs/_ext: README.md and others of the root
]
exclude_patterns = ["_build", "_ext", "**.ipynb_checkpoints"]

# Pages have to work from a disk without a network: no address but the site's own, no script that
# fetches. A search's summaries would be fetched, which browsers refuse for files.
html_theme = "furo"
html_show_search_summary = False
html_copy_source = False
nb_ipywidgets_js: dict[str, dict[str, str]] = {}

# Words stay as they are written: `--flag` is no dash, and `$NAME` no formula.
smartquotes = False
myst_enable_extensions = ["html_image"]
myst_heading_anchors = 4
highlight_language = "bash"

nb_execution_mode = "force" if os.environ.get("JAXLUNG_NOTEBOOKS") == "run" else "off"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True

# Docstrings name code in single backticks.
default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Call", "params_style")]
