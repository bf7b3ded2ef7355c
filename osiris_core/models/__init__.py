"""Model runs: a command in a workspace, generated, run by any adapter, postprocessed."""
