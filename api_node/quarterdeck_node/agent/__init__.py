"""The agent beside serve: it alone holds the store's credentials. Packages come in through it, records leave through it."""
