"""The doors: each speaks one protocol, and hands rows to the one predictor behind all of them."""
