"""The `osiris` command line. Every command is a file of its own, imported when it is called."""
