"""An example of what a plugin can bring: a run backend, a postprocessor and a remote pipeline."""
