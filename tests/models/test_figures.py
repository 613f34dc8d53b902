"""The figures that are written down are those of the models.

Where a model or the counting changes: `python -m convnext.models.figures` writes them anew.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from convnext.core.errors import UserError
from convnext.models.create import MODEL_NAMES
from convnext.models.figures import all_figures, count, figures_of

QUICK = ("convnext_atto", "convnext_isotropic_small", "resnet50", "swin_tiny", "vit_small", "dinov3_convnext_tiny")


def test_every_model_has_figures():
    assert tuple(all_figures()) == MODEL_NAMES


@pytest.mark.parametrize("name", QUICK)
def test_figures(name):
    assert figures_of(name) == count(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODEL_NAMES if name not in QUICK])
def test_all_other_figures(name):
    assert figures_of(name) == count(name), "`python -m convnext.models.figures` counts again"


def test_unknown_name():
    with pytest.raises(UserError, match=r"no model 'convnext_tinny'\. Did you mean 'convnext_tiny'"):
        figures_of("convnext_tinny")


@pytest.mark.parametrize("arguments", [["models"], ["models", "convnext_tiny"], ["roadmap", "show"]])
def test_commands_take_no_torch(arguments):
    """Counting takes seconds, importing torch takes one: these commands do neither."""
    code = "import sys; from convnext.cli.main import main; sys.argv = ['convnext', *sys.argv[1:]]\n"
    code += "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
    code += "assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
