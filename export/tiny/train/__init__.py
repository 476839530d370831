"""Training of handrefiner-tiny; stages resume from their checkpoints in the work folder (default .train)."""
