"""The demo: a year of real flights, two models, a challenger, a swap and a rollback. Started by `make demo`."""
