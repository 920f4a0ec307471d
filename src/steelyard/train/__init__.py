"""From prepared rows to a fitted estimator and the recipe of its bundle."""

from steelyard.train.fit import Fitted, class_order, fit

__all__ = ["Fitted", "class_order", "fit"]
