"""The engine's worker on this machine: how a job is begun, stepped and decoded."""
