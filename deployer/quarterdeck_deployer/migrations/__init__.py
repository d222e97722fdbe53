"""Schema migrations, run at every start; packaged so that an installed program carries them."""
