"""People judge outputs: forms to fill in offline, and what came back as numbers. No torch here."""

from harness.annotate.forms import export_forms
from harness.annotate.ratings import import_ratings

__all__ = ["export_forms", "import_ratings"]
