"""The command groups, one file each; every function here reads its arguments, calls one thing and prints the answer."""
