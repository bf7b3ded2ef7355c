"""The drivers that come with Osiris core; each is found by name through `DriverRegistry`."""
