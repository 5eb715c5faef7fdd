"""The contact sheet: composites of a plan on one picture."""
