"""Relative errors of a result. Needs torch alone."""

import math


def relative_errors(found, wanted):
    """Root mean square of the difference over that of what is wanted, and the largest difference over the largest value.

    None where that is no number: JSON has no other word for it.
    """
    found, wanted = found.double(), wanted.double()
    difference = found - wanted
    errors = {
        "rms": (difference.square().mean().sqrt() / wanted.square().mean().sqrt()).item(),
        "largest": (difference.abs().max() / wanted.abs().max()).item(),
    }
    return {name: error if math.isfinite(error) else None for name, error in errors.items()}
