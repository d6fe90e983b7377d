"""Depthwise convolutions of K x K taps by ones of 1 x K and K x 1 taps.

``line_filters`` fits weights (numpy alone), ``sites`` finds what may be replaced, ``deciding``
chooses and makes decisions, ``applying`` rewrites a function by them.
"""
